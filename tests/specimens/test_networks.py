"""The specimens of the course: shipped, fresh, small, and as good as their acceptance tests ask."""

import math
from collections import Counter

import pytest
import torch

from course_lib.data import load as load_data
from course_lib.specimens import find, load, names, networks, record, verify

MOST_KILOBYTES = 310


@pytest.mark.parametrize("name", names())
def test_shipped_weights_are_fresh(name):
    assert find(name).state() == "fresh", "make specimens"


@pytest.mark.parametrize("name", names())
def test_shipped_weights_pass_their_acceptance_test_here(name):
    """Measured on this machine, with this Python's text: as recorded, and within the bounds."""
    for now, then in zip(verify(name), record(name).checks, strict=True):
        assert now.passed
        assert now.what == then.what
        if record(name).python == load_data("english").meta.versions["python"]:
            assert now.measured == pytest.approx(then.measured, rel=1e-3)


@pytest.mark.parametrize("name", names())
def test_an_untrained_network_does_not_pass(name):
    torch.manual_seed(0)
    assert not all(check.passed for check in find(name).accept(find(name).build().eval()))


def test_the_files_are_small():
    sizes = {name: find(name).shipped.stat().st_size / 1000 for name in names()}
    assert {name: size for name, size in sizes.items() if size > MOST_KILOBYTES} == {}
    assert sum(sizes.values()) < 15_000


def test_loading_trains_nothing(monkeypatch):
    monkeypatch.setattr(networks, "fit", None)
    assert sum(p.numel() for p in load("char_gpt").parameters()) > 100_000


def test_the_character_model_writes_words():
    english = load_data("english")
    start = english.encode("The statement ")[None]
    generator = torch.Generator().manual_seed(0)
    text = english.decode(load("char_gpt").generate(start, 400, generator=generator)[0])
    known = set(english.decode(english.train.tokens).split())
    written = text.split()[2:-1]
    assert sum(word in known for word in written) > 0.5 * len(written)


def test_trigram_loss_is_what_counting_by_hand_gives():
    generator = torch.Generator().manual_seed(0)
    train, held_out = (torch.randint(3, (size,), generator=generator) for size in (60, 20))
    train[-1] = 3  # a character after which nothing is known
    held_out[5] = 3

    def probability(context, character):
        if context is None:
            return 1 / 4
        n = Counter(zip(*(train.tolist()[i:] for i in range(len(context) + 1)), strict=False))
        after = {gram[-1]: count for gram, count in n.items() if gram[:-1] == context}
        shorter = probability(context[1:] if context else None, character)
        if not after:
            return shorter
        return (after.get(character, 0) + len(after) * shorter) / (sum(after.values()) + len(after))

    losses = [-math.log(probability((a, b), c)) for a, b, c in held_out.unfold(0, 3, 1).tolist()]
    assert networks.trigram_loss(train, held_out, 4) == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_the_trigram_bound_beats_shorter_contexts():
    """So that a network below it has learned to use more than the last two characters."""
    text = load_data("english")
    _, counts = text.validation.tokens.unique(return_counts=True)
    share = counts / counts.sum()
    entropy = -(share * share.log()).sum().item()
    pairs = text.validation.tokens.unfold(0, 2, 1)
    _, counts = pairs.unique(dim=0, return_counts=True)
    share = counts / counts.sum()
    conditional = -(share * share.log()).sum().item() - entropy
    bound = networks.trigram_loss(text.train.tokens, text.validation.tokens, text.vocab_size)
    assert bound < conditional < entropy
