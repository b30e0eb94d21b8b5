"""Subsampled attention, against dense attention with the unseen pairs masked."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.attention import (
    KVCache,
    MultiHeadAttention,
    SubsampledAttention,
    attention_scores,
    ensemble_members,
    local_shuffle,
    self_ensemble,
    subset_attention,
    window_attention,
)
from tests.layers.attention_oracles import randomise
from tests.oracles import values_and_gradients


def qkv(b=2, h=3, t=11, d=4):
    return [torch.randn(b, h, t, d).double() for _ in range(3)]


def dense(mask):
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@pytest.mark.parametrize("size", [1, 3, 11])
@pytest.mark.parametrize("causal", [False, True])
def test_a_subset_is_dense_attention_with_the_other_keys_masked(size, causal):
    kept = torch.rand(2, 11).argsort(-1)[:, :size]
    seen = F.one_hot(kept, 11).sum(1).bool()[:, None, None, :]  # (b, 1, 1, s)
    if causal:
        seen = (seen | torch.eye(11).bool()) & torch.ones(11, 11).tril().bool()
    got = values_and_gradients(lambda q, k, v: subset_attention(q, k, v, kept, causal=causal), *qkv())
    torch.manual_seed(0)  # the same tensors again
    kept = torch.rand(2, 11).argsort(-1)[:, :size]
    torch.testing.assert_close(got, values_and_gradients(dense(seen), *qkv()))


def test_an_empty_causal_subset_leaves_every_token_its_own_value():
    q, k, v = qkv()
    torch.testing.assert_close(subset_attention(q, k, v, torch.empty(2, 0, dtype=torch.long), causal=True), v)


@pytest.mark.parametrize("windows", [1, 2, 3, 11])
@pytest.mark.parametrize("causal", [False, True])
def test_windows_are_dense_attention_with_a_block_diagonal_mask_in_shuffled_order(windows, causal):
    parts = qkv()
    order = torch.rand(2, 11).argsort(-1)
    seen = torch.zeros(2, 1, 11, 11, dtype=torch.bool)
    for b in range(2):
        for window in order[b].tensor_split(windows):
            seen[b, 0, window[:, None], window] = True
    if causal:
        seen &= torch.ones(11, 11).tril().bool()
    got = values_and_gradients(
        lambda q, k, v: window_attention(q, k, v, order, windows, causal=causal), *parts
    )
    torch.testing.assert_close(got, values_and_gradients(dense(seen), *parts))


def test_a_local_shuffle_permutes_and_moves_no_token_further_than_its_noise():
    order = local_shuffle(50, 40, 6.0)
    assert torch.equal(order.sort(-1).values, torch.arange(40).expand(50, -1))
    moved = (order - torch.arange(40)).abs()
    assert 0 < moved.max() <= 6
    assert torch.equal(local_shuffle(2, 9, 0.0), torch.arange(9).expand(2, -1))
    far = (local_shuffle(200, 40, torch.inf) - torch.arange(40)).abs().float()
    assert far.mean().item() == pytest.approx(40 / 3, rel=0.05)  # of two even choices


@pytest.mark.parametrize("locality", [None, 3.0, torch.inf])
@pytest.mark.parametrize("causal", [False, True])
def test_rate_one_and_evaluation_are_dense(locality, causal):
    x = torch.randn(2, 11, 6).double()
    layer = randomise(SubsampledAttention(6, 2, 4, locality=locality, causal=causal))
    plain = MultiHeadAttention(6, 2, causal=causal).double()
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), plain(x))
    layer.train()
    assert not torch.allclose(layer(x), plain(x))
    layer.rate = 1
    torch.testing.assert_close(layer(x), plain(x))


@pytest.mark.parametrize("rate", [2, 3, 4])
def test_scores_fall_by_the_rate(rate):
    x = torch.randn(2, 12, 6)
    full = 2 * 2 * 12 * 12
    for options in ({}, {"causal": True}, {"locality": 4.0}, {"locality": 4.0, "causal": True}):
        layer = SubsampledAttention(6, 2, rate, **options)
        assert attention_scores(lambda: layer(x)) == full / rate  # noqa: B023
        assert attention_scores(lambda: layer.eval()(x)) == full  # noqa: B023


@pytest.mark.parametrize("options", [{}, {"locality": 2.0}, {"locality": torch.inf, "causal": True}], ids=str)
def test_the_layer_attends_to_what_it_draws(options):
    layer, x = randomise(SubsampledAttention(6, 2, 3, **options)).train(), torch.randn(2, 9, 6).double()
    torch.manual_seed(7)
    y = layer(x)
    torch.manual_seed(7)
    q, k, v = layer.project(x, x)
    if layer.locality is None:
        kept = torch.rand(2, 9).argsort(-1)[:, :3]
        heads = subset_attention(q, k, v, kept, causal=layer.causal)
    else:
        heads = window_attention(q, k, v, local_shuffle(2, 9, layer.locality), 3, causal=layer.causal)
    torch.testing.assert_close(y, layer.out(heads.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("options", [{}, {"locality": 2.0}, {"causal": True}], ids=str)
def test_every_token_is_drawn_alike_and_examples_and_calls_differ(options):
    """With equal scores and one-hot values, a row of the output shows which tokens a query saw."""
    layer = SubsampledAttention(9, 1, 3, **options)
    with torch.no_grad():
        layer.query.weight.zero_()
        for projection in (layer.value, layer.out):
            projection.weight.copy_(torch.eye(9))
    x = torch.eye(9).expand(500, -1, -1)
    with torch.no_grad():
        seen = layer(x) > 0  # (b, t, s)
    assert (seen[0] != seen[1]).any()
    assert (seen != (layer(x) > 0)).any()
    often = seen.float().mean(0)
    if not options:
        assert seen.sum(-1).eq(3).all()
        torch.testing.assert_close(often, torch.full((9, 9), 1 / 3), atol=0.08, rtol=0)
    elif "causal" in options:
        assert not often.triu(1).any()
        assert torch.equal(often.diagonal(), torch.ones(9))
        below = often[torch.ones(9, 9).tril(-1).bool()]
        torch.testing.assert_close(below, torch.full_like(below, 2 / 9), atol=0.08, rtol=0)
    else:
        assert often[4, 3] > often[4, 1] > often[4, 8] - 1e-6  # near tokens meet often


def two_layers(rate=3):
    layers = [SubsampledAttention(6, 2, rate, causal=True) for _ in range(2)]
    return randomise(nn.Sequential(layers[0], nn.Dropout(0.5), layers[1]))


def test_ensemble_members_are_passes_with_their_own_draws_and_the_ensemble_their_mean():
    model, x = two_layers(), torch.randn(4, 9, 6).double()
    torch.manual_seed(3)
    members = ensemble_members(model, x, members=5)
    torch.manual_seed(3)
    torch.testing.assert_close(self_ensemble(model, x, members=5), members.mean(0))
    torch.testing.assert_close(members.sum(-1), torch.ones(5, 4, 9).double())
    assert all(not torch.equal(members[0], other) for other in members[1:])
    torch.manual_seed(3)
    for layer in (model[0], model[2]):
        layer.train()
    with torch.no_grad():
        torch.testing.assert_close(model(x).softmax(-1), members[0])


def test_ensemble_of_dense_layers_is_one_pass():
    model, x = two_layers(rate=1), torch.randn(4, 9, 6).double()
    torch.testing.assert_close(self_ensemble(model, x), model(x).softmax(-1))


def test_the_ensembles_log_loss_is_at_most_the_members_mean():
    model, x, target = two_layers(), torch.randn(4, 9, 6).double(), torch.randint(6, (4, 9))
    members = ensemble_members(model, x, members=8)
    log_loss = -members.log().gather(-1, target.expand(8, 4, 9)[..., None])
    ensemble = -members.mean(0).log().gather(-1, target[..., None])
    assert (ensemble <= log_loss.mean(0) + 1e-12).all()
    assert ensemble.mean() < log_loss.mean() - 1e-4


def test_the_model_is_given_back_as_it_was_even_after_an_error():
    model = two_layers()
    model[0].train()  # a mixture of modes
    for x in (torch.randn(1, 9, 6).double(), torch.randn(1, 9, 5).double()):
        try:
            ensemble_members(model, x)
        except Exception:
            assert x.shape[-1] == 5
        assert [m.training for m in model] == [True, False, False]
        assert not any(m.draws_in_eval for m in (model[0], model[2]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SubsampledAttention(6, 2, 0), "rate must be"),
        (lambda: SubsampledAttention(6, 2, 2, locality=-1.0), "locality must be"),
        (lambda: local_shuffle(1, 3, -1.0), "width must be"),
        (lambda: SubsampledAttention(6, 2, 2)(torch.randn(2, 5, 6), return_weights=True), r"\.eval\(\)"),
        (
            lambda: SubsampledAttention(6, 2, 2)(torch.randn(2, 5, 6), mask=torch.ones(5, 5) > 0),
            r"\.eval\(\)",
        ),
        (lambda: SubsampledAttention(6, 2, 2)(torch.randn(2, 5, 6), torch.randn(2, 4, 6)), r"\.eval\(\)"),
        (lambda: SubsampledAttention(6, 2, 2)(torch.randn(2, 5, 7)), "7"),
        (lambda: self_ensemble(nn.Linear(2, 2), torch.randn(1, 2)), "got 0 and 8"),
        (lambda: ensemble_members(two_layers(), torch.randn(1, 2, 6), members=0), "got 2 and 0"),
    ],
)
def test_bad_input_is_refused(build, message):
    with as_installed(), pytest.raises(ValueError, match=message):
        build()


def test_in_evaluation_it_decodes_with_a_cache():
    layer, x, cache = (
        randomise(SubsampledAttention(6, 2, 2, causal=True)),
        torch.randn(2, 5, 6).double(),
        KVCache(),
    )
    with torch.no_grad():
        steps = [layer(part, cache=cache) for part in x.split(1, dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), layer(x))
