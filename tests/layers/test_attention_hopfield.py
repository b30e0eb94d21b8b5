"""Associative memory: the update is attention, lowers an energy, and retrieves."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.attention import (
    Hopfield,
    HopfieldLookup,
    HopfieldPooling,
    SymbolicAttention,
    hopfield_energy,
    hopfield_update,
    hopfield_update_naive,
)
from tests.layers.attention_oracles import layer_gradients, randomise
from tests.oracles import values_and_gradients

BETAS = [0.5, 2.0, 8.0, 32.0]


def memory(states=5, patterns=7, width=3):
    return torch.randn(states, width).double(), torch.randn(patterns, width).double()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 7, 3), (3, 1, 2), (1, 11, 5)], ids=str)
@pytest.mark.parametrize("beta", BETAS)
def test_update_equals_torchs_attention_in_value_and_gradients(sizes, beta):
    state, patterns = memory(*sizes)
    expected = values_and_gradients(
        lambda xi, x: F.scaled_dot_product_attention(xi[None], x[None], x[None], scale=beta)[0],
        state,
        patterns,
    )
    for update in (hopfield_update, hopfield_update_naive):
        got = values_and_gradients(lambda xi, x: update(xi, x, beta=beta), state, patterns)  # noqa: B023
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("beta", BETAS)
def test_ten_updates_from_fifty_starts_never_raise_the_energy(beta):
    _, patterns = memory(patterns=16, width=8)
    state = 3 * torch.randn(50, 8).double()
    energies = [hopfield_energy(state, patterns, beta=beta)]
    for _ in range(10):
        state = hopfield_update(state, patterns, beta=beta)
        energies.append(hopfield_energy(state, patterns, beta=beta))
    fall = -torch.stack(energies).diff(dim=0)
    assert fall.min() > -1e-12
    assert fall[0].min() > 1e-3  # and the first update does lower it
    assert min(energy.min() for energy in energies) >= 0


@pytest.mark.parametrize("beta", BETAS)
def test_the_update_is_a_step_down_the_gradient_of_the_energy(beta):
    state, patterns = memory()
    _, gradient, _ = values_and_gradients(
        lambda xi, x: hopfield_energy(xi, x, beta=beta).sum(), state, patterns
    )
    scale = torch.randn((), generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # the cotangent
    torch.testing.assert_close(hopfield_update(state, patterns, beta=beta) - state, -gradient / scale)


def test_energy_of_one_pattern_is_half_the_squared_distance():
    state, patterns = memory(patterns=1)
    expected = 0.5 * (state - patterns).square().sum(-1)
    torch.testing.assert_close(hopfield_energy(state, patterns, beta=3.0), expected)


def test_energy_equals_its_equation_term_by_term():
    state, patterns = memory(states=1)
    scores = [2.0 * float(state[0] @ x) for x in patterns]
    lse = math.log(sum(map(math.exp, scores))) / 2.0
    largest = max(float(x @ x) for x in patterns)
    expected = -lse + float(state[0] @ state[0]) / 2 + math.log(7) / 2.0 + largest / 2
    assert hopfield_energy(state, patterns, beta=2.0).item() == pytest.approx(expected, rel=1e-12)


def test_energies_of_a_batch_are_those_of_its_members():
    state, patterns = torch.randn(2, 3, 5).double(), torch.randn(2, 7, 5).double()
    members = [hopfield_energy(s, x, beta=2.0) for s, x in zip(state, patterns, strict=True)]
    torch.testing.assert_close(hopfield_energy(state, patterns, beta=2.0), torch.stack(members))


def test_small_beta_averages_all_patterns_and_large_beta_picks_the_nearest():
    state, patterns = memory()
    mean = patterns.mean(0).expand(5, -1)
    torch.testing.assert_close(hopfield_update(state, patterns, beta=1e-9), mean, rtol=1e-6, atol=1e-6)
    nearest = patterns[(state @ patterns.T).argmax(-1)]
    torch.testing.assert_close(hopfield_update(state, patterns, beta=1e6), nearest)


def test_one_update_recovers_random_patterns_with_a_seventh_of_their_bits_flipped():
    torch.manual_seed(0)
    patterns = torch.randn(64, 64).sign()
    flipped = patterns * torch.where(torch.rand(64, 64) < 0.15, -1.0, 1.0)
    assert torch.equal(hopfield_update(flipped, patterns, beta=1.0).sign(), patterns)


def test_masked_patterns_are_not_stored_and_batches_are_fine():
    state, patterns = torch.randn(2, 3, 5).double(), torch.randn(2, 7, 5).double()
    mask = torch.tensor([True] * 4 + [False] * 3).expand(2, 3, 7)
    expected = torch.stack(
        [hopfield_update_naive(s, x[:4], beta=2.0) for s, x in zip(state, patterns, strict=True)]
    )
    torch.testing.assert_close(hopfield_update(state, patterns, beta=2.0, mask=mask), expected)


def test_hopfield_layer_equals_torchs_attention_whose_values_are_its_keys():
    ours, peer = randomise(Hopfield(6, 2)), nn.MultiheadAttention(6, 2, batch_first=True).double()
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.key.weight]))
        peer.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.key.bias]))
        peer.out_proj.load_state_dict(ours.out.state_dict())
    states, patterns = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 6).double()
    expected, weights = peer(states, patterns, patterns, average_attn_weights=False)
    z, ours_weights = ours(states, patterns, return_weights=True)
    torch.testing.assert_close((z, ours_weights), (expected, weights))
    torch.testing.assert_close(ours(states, patterns), z)
    torch.testing.assert_close(ours(states), peer(states, states, states)[0])
    y, (d_states, d_patterns), gradients = layer_gradients(ours, states, patterns)
    got = values_and_gradients(lambda s, x: peer(s, x, x, need_weights=False)[0], states, patterns)
    torch.testing.assert_close([y, d_states, d_patterns], got)
    assert all(g.abs().max() > 1e-6 for g in gradients.values())


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_hopfield_layer_repeats_the_update_in_every_head(steps):
    layer = randomise(Hopfield(6, 2, beta=1.3, steps=steps))
    states, patterns = torch.randn(1, 3, 6).double(), torch.randn(1, 5, 6).double()
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        xi, x = layer.query(states)[0, :, part], layer.key(patterns)[0, :, part]
        for _ in range(steps):
            xi = hopfield_update_naive(xi, x, beta=1.3)
        heads.append(xi)
    torch.testing.assert_close(layer(states, patterns)[0], layer.out(torch.cat(heads, dim=-1)))


def test_hopfield_layer_ignores_masked_patterns():
    layer = randomise(Hopfield(6, 2, steps=3))
    states, patterns = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 6).double()
    mask = torch.tensor([True, True, False, True, False])
    torch.testing.assert_close(layer(states, patterns, mask=mask), layer(states, patterns[:, mask]))


def test_pooling_is_the_layer_with_states_that_are_learned():
    pool, layer = (
        randomise(HopfieldPooling(6, 2, num_states=3, steps=2)),
        randomise(Hopfield(6, 2, steps=2)),
    )
    with torch.no_grad():  # unit vectors as input write the columns of the query matrix
        layer.key.load_state_dict(pool.key.state_dict())
        layer.out.load_state_dict(pool.out.state_dict())
        layer.query.weight.zero_()
        layer.query.bias.zero_()
        layer.query.weight[:, :3] = pool.states.transpose(1, 2).reshape(6, 3)
    patterns = torch.randn(4, 5, 6).double()
    states = torch.eye(6).double()[:3].expand(4, 3, 6)
    expected, weights = layer(states, patterns, return_weights=True)
    torch.testing.assert_close(pool(patterns), expected)
    torch.testing.assert_close(pool(patterns, return_weights=True), (expected, weights))


def test_pooling_does_not_depend_on_the_order_and_skips_padding():
    pool, patterns = randomise(HopfieldPooling(6, 1)), torch.randn(4, 5, 6).double()
    torch.testing.assert_close(pool(patterns[:, torch.randperm(5)]), pool(patterns))
    padded = F.pad(patterns, (0, 0, 0, 2), value=100.0)
    mask = torch.tensor([True] * 5 + [False] * 2)
    torch.testing.assert_close(pool(padded, mask=mask), pool(patterns))


@pytest.mark.parametrize("steps", [1, 3])
def test_lookup_equals_attention_over_its_memory(steps):
    layer = randomise(HopfieldLookup(6, 2, 7, steps=steps, beta=0.9))
    x = torch.randn(2, 5, 6).double()
    heads = []
    for h, part in enumerate((slice(0, 3), slice(3, 6))):
        xi = layer.query(x)[..., part]
        for _ in range(steps - 1):
            xi = hopfield_update(xi, layer.patterns[h].expand(2, -1, -1), beta=0.9)
        weights = (0.9 * xi @ layer.patterns[h].T).softmax(-1)
        heads.append(weights @ layer.values[h])
    expected = layer.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(layer(x), expected)
    y, weights = layer(x, return_weights=True)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5).double())


def test_symbolic_attention_is_a_lookup_without_an_output_matrix():
    symbols, lookup = randomise(SymbolicAttention(6, 2, 7)), randomise(HopfieldLookup(6, 2, 7))
    with torch.no_grad():
        lookup.query.load_state_dict(symbols.query.state_dict())
        lookup.patterns.copy_(symbols.templates)
        lookup.values.copy_(symbols.symbols)
        lookup.out.weight.copy_(torch.eye(6))
        lookup.out.bias.zero_()
    x = torch.randn(2, 5, 6).double()
    torch.testing.assert_close(symbols(x), lookup(x))


def test_learned_memories_start_standard_normal():
    torch.manual_seed(0)
    lookup, pool = HopfieldLookup(32, 2, 200), HopfieldPooling(32, 1, num_states=100)
    for parameter in (lookup.patterns, lookup.values, pool.states):
        assert parameter.std().item() == pytest.approx(1.0, abs=0.05)
        assert parameter.mean().item() == pytest.approx(0.0, abs=0.05)
    bound = (6 / 64) ** 0.5
    assert lookup.query.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not pool.key.bias.any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: hopfield_update(*memory(), beta=0.0), "beta must be a finite number above 0, got 0.0"),
        (lambda: hopfield_energy(*memory(), beta=-1.0), "hopfield_energy: beta must be"),
        (lambda: Hopfield(6, 1, beta=float("nan")), "beta must be a finite number above 0, got nan"),
        (lambda: Hopfield(6, 4), "num_heads=4 does not divide dim=6"),
        (lambda: Hopfield(6, 1, steps=0), "steps must be"),
        (lambda: HopfieldPooling(6, 1, num_states=0), "num_states must be"),
        (lambda: HopfieldLookup(6, 1, 0), "num_patterns must be"),
        (lambda: Hopfield(6, 1)(torch.randn(2, 3, 5)), "5"),
        (lambda: Hopfield(6, 1)(torch.randn(2, 3, 6), torch.randn(2, 3, 7)), "7"),
        (lambda: HopfieldLookup(6, 1, 2)(torch.randn(3, 6)), r"\(b, t, 6\)"),
        (lambda: HopfieldPooling(6, 1)(torch.randn(2, 3, 7)), "7"),
    ],
)
def test_bad_input_is_refused(build, message):
    with as_installed(), pytest.raises(ValueError, match=message):
        build()
