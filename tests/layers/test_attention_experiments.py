"""What the experiments of layers/attention measure with."""

from itertools import pairwise

import pytest
import torch

from course_lib.data import load
from course_lib.experiments.layers import attention as experiments
from course_lib.experiments.layers.attention import multi_query_attention
from course_lib.layers.attention import MultiHeadAttention


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("model", [experiments.LabelClassifier, experiments.SelfAttentionClassifier])
def test_contributions_of_heads_add_up_to_the_scores(model, residual):
    torch.manual_seed(0)
    model, tokens = model(residual=residual).double(), load("multi_label_cues", seed=0).test.x[:50]
    missing = model(tokens) - model.contributions(tokens).sum(1)
    torch.testing.assert_close(missing, missing[:1].expand_as(missing))  # the biases, the same for all


def test_a_head_that_alone_moves_a_label_has_a_share_of_one():
    present = torch.tensor([[1.0, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1], [1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
    alone = torch.diag_embed(present)[:, [3, 0, 1, 2, 5, 4]]  # head of each label, in another order
    assert experiments.matched_share(alone, present) == pytest.approx(1)
    assert experiments.matched_share(present[:, None].expand(-1, 6, -1), present) == pytest.approx(1 / 6)


def test_places_cost_no_parameters_and_tell_pixels_apart():
    layer = experiments.Placed(MultiHeadAttention(32, 4))
    assert experiments.count(layer) == experiments.count(MultiHeadAttention(32, 4))
    assert len(layer.places.unique(dim=0)) == 64


def test_the_plateau_is_that_of_counted_letter_pairs():
    english, pairs = load("english"), {}
    train, held_out = english.train.tokens.tolist(), english.validation.tokens.tolist()
    for pair in pairwise(train):
        pairs[pair] = pairs.get(pair, 0) + 1
    firsts = torch.bincount(torch.tensor(train[:-1]), minlength=english.vocab_size).double()
    chances = torch.tensor(
        [(pairs.get((a, b), 0) + 0.1) / (firsts[a] + 0.1 * english.vocab_size) for a, b in pairwise(held_out)]
    )
    assert experiments.letter_pairs() == pytest.approx(-chances.log().mean().item(), rel=1e-4)
    assert abs(multi_query_attention.PAIRS - experiments.letter_pairs()) < 1e-3
