"""Bases against scipy and numpy; Kolmogorov-Arnold layers against loops; pruning against a plain layer."""

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from scipy.interpolate import BSpline
from scipy.stats import norm
from torch import nn
from torch.nn import functional as F

from course_lib.layers.activation import (
    KAN_FAMILIES,
    KANLinear,
    SelectableKANLinear,
    bspline_basis,
    chebyshev_basis,
    prune_kan,
    rbf_basis,
    selection_stage,
    uniform_knots,
    wavelet_basis,
)

FAMILIES = list(KAN_FAMILIES)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("intervals", [1, 2, 7])
def test_splines_equal_scipy_on_uniform_knots(intervals, degree):
    knots = uniform_knots(intervals, degree).double()
    x = torch.linspace(-1 + 1e-6, 1 - 1e-6, 53).double()
    expected = BSpline.design_matrix(x.numpy(), knots.numpy(), degree).toarray()
    torch.testing.assert_close(
        bspline_basis(x, knots, degree), torch.from_numpy(expected), rtol=1e-6, atol=1e-9
    )


def test_splines_and_their_slopes_equal_scipy_on_uneven_knots():
    knots = torch.tensor([-3.0, -1.1, -1.0, -0.2, 0.1, 0.9, 1.4, 2.0, 5.0]).double()
    x = torch.tensor([-0.19, 0.05, 0.3, 0.8]).double().requires_grad_()
    basis = bspline_basis(x, knots)
    for g in range(5):
        peer = BSpline.basis_element(knots[g : g + 5].numpy(), extrapolate=False)
        inside = np.nan_to_num(peer(x.detach().numpy())), np.nan_to_num(peer.derivative()(x.detach().numpy()))
        (slope,) = torch.autograd.grad(basis[:, g].sum(), x, retain_graph=True)
        torch.testing.assert_close(basis[:, g], torch.from_numpy(inside[0]))
        torch.testing.assert_close(slope, torch.from_numpy(inside[1]))
    assert torch.autograd.gradcheck(lambda x: bspline_basis(x, knots), x)


def test_splines_sum_to_one_on_the_interval_and_vanish_far_outside():
    knots = uniform_knots(5).double()
    inside = bspline_basis(torch.linspace(-1, 1, 101).double(), knots)
    torch.testing.assert_close(inside.sum(-1), torch.ones(101).double())
    assert (inside >= 0).all()
    assert bspline_basis(torch.tensor([-9.0, 9.0]).double(), knots).abs().max() == 0


def test_splines_on_repeated_knots_equal_scipy_and_are_nan_where_knots_decrease():
    knots = torch.tensor([-1.0, -1.0, -1.0, -1.0, 0.2, 1.0, 1.0, 1.0, 1.0]).double()
    x = torch.linspace(-1, 0.999, 41).double()
    expected = BSpline.design_matrix(x.numpy(), knots.numpy(), 3).toarray()
    torch.testing.assert_close(bspline_basis(x, knots), torch.from_numpy(expected))
    assert bspline_basis(x, knots.flip(0)).isnan().all()


def test_splines_refuse_bad_knots():
    with pytest.raises(ValueError, match="at least 5 knots, got 3"):
        bspline_basis(torch.zeros(1), torch.arange(3.0))
    with pytest.raises(ValueError, match="one interval"):
        uniform_knots(0)


@pytest.mark.parametrize("degree", [0, 1, 2, 9])
def test_chebyshev_equals_numpy_and_the_cosine(degree):
    x = torch.linspace(-1, 1, 31).double()
    ours = chebyshev_basis(x, degree)
    torch.testing.assert_close(ours, torch.from_numpy(chebyshev.chebvander(x.numpy(), degree)))
    angles = torch.arange(degree + 1) * torch.acos(x)[:, None]
    torch.testing.assert_close(ours, torch.cos(angles), rtol=1e-6, atol=1e-6)


def test_bumps_and_hats_equal_scipys_normal_density_and_its_second_derivative():
    x, centres = torch.linspace(-2, 2, 41).double(), torch.tensor([-0.5, 0.3]).double()
    for g, c in enumerate(centres.tolist()):
        bump = norm.pdf(x, c, 0.7 / 2**0.5) / norm.pdf(c, c, 0.7 / 2**0.5)
        torch.testing.assert_close(rbf_basis(x, centres, 0.7)[:, g], torch.from_numpy(bump))
    t, s = torch.tensor([0.3]).double(), torch.tensor([0.7]).double()
    z = x.clone().requires_grad_()
    density = torch.exp(-0.5 * ((z - t) / s).square())
    (first,) = torch.autograd.grad(density.sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    torch.testing.assert_close(wavelet_basis(x, t, s)[:, 0], -(s**2) * second)
    assert torch.autograd.gradcheck(wavelet_basis, (z, t.requires_grad_(), s.requires_grad_()))


def families_by_hand(name, x, layer, i):
    """Basis of input column i from the public functions."""
    g = layer.num_basis
    if name == "bspline":
        return bspline_basis(x, uniform_knots(g - 3).double())
    if name == "chebyshev":
        return chebyshev_basis(x, g - 1)
    if name == "rbf":
        return rbf_basis(x, torch.linspace(-1, 1, g).double(), 2 / (g - 1))
    family = layer.families["wavelet"]
    return wavelet_basis(x, family.translation[i], family.log_scale[i].exp())


@pytest.mark.parametrize("squash", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_layer_equals_a_sum_over_edges(name, squash):
    layer = KANLinear(3, 2, family=name, num_basis=5, squash=squash).double()
    x = 0.9 * torch.rand(4, 3).double()
    expected = torch.zeros(4, 2).double()
    for j in range(2):
        for i in range(3):
            z = torch.tanh(x[:, i]) if squash else x[:, i]
            edge = families_by_hand(name, z, layer, i) @ layer.coefficients[j, i]
            expected[:, j] += layer.base.weight[j, i] * F.silu(x[:, i]) + edge
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", [KANLinear, SelectableKANLinear])
def test_an_ensemble_of_layers_is_vectorised_over_its_members(make):
    layers = [make(3, 2, num_basis=5) for _ in range(3)]
    x = torch.randn(4, 3)
    parameters, buffers = torch.func.stack_module_state(layers)
    together = torch.func.vmap(lambda p, b: torch.func.functional_call(layers[0], (p, b), (x,)))(
        parameters, buffers
    )
    torch.testing.assert_close(together, torch.stack([layer(x) for layer in layers]))


def test_the_stage_is_saved_and_loaded():
    layer, fresh = decided(), SelectableKANLinear(3, 2, num_basis=5).double()
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.9]]))
    selection_stage(layer, "selective")
    fresh.load_state_dict(layer.state_dict())
    assert (fresh.weights() == 0).sum() == 6
    torch.testing.assert_close(fresh.weights(), layer.weights())
    fresh.reset_parameters()
    assert (fresh.weights() == 0.25).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_equal_families_stay_in_the_second_stage_in_half_precision(dtype):
    layer = SelectableKANLinear(2, 2, families=("rbf", "bspline", "chebyshev")).to(dtype)
    torch.testing.assert_close(
        selection_stage(layer, "selective").weights().float(), torch.full((2, 3), 1 / 3), rtol=0, atol=2e-3
    )


def test_layer_with_mixed_families_is_the_sum_of_layers_with_one():
    names = ["rbf", "bspline", "rbf", "wavelet"]
    mixed = KANLinear(4, 2, family=names, num_basis=5).double()
    x, total = torch.randn(6, 4).double(), 0
    for i, name in enumerate(names):
        single = KANLinear(1, 2, family=name, num_basis=5).double()
        single.base.weight.data = mixed.base.weight.data[:, i : i + 1]
        single.coefficients.data = mixed.coefficients.data[:, i : i + 1]
        total = total + single(x[:, i : i + 1])
    torch.testing.assert_close(mixed(x), total)


def test_layer_refuses_unknown_families_small_bases_and_wrong_widths():
    with pytest.raises(ValueError, match="family must be one of 'bspline'"):
        KANLinear(2, 2, family="fourier")
    with pytest.raises(ValueError, match="at least 4"):
        KANLinear(2, 2, num_basis=3)
    with pytest.raises(ValueError, match="family must have 2 entries"):
        KANLinear(2, 2, family=["rbf"])
    with pytest.raises(ValueError, match="expects 2"):
        KANLinear(2, 2)(torch.randn(3, 5))
    with pytest.raises(ValueError, match="granularity"):
        SelectableKANLinear(2, 2, granularity="edge")
    for families in ((), ("rbf", "rbf")):
        with pytest.raises(ValueError, match="families must be one or more, each once"):
            SelectableKANLinear(2, 2, families=families)


def decided(granularity="node"):
    """A layer whose inputs want different families by far, with wavelets that have moved."""
    layer = SelectableKANLinear(3, 2, num_basis=5, granularity=granularity).double()
    with torch.no_grad():
        for m, logits in zip((3, 0, 2), layer.logits, strict=False):
            logits[m] = 50.0
        layer.families["wavelet"].translation.add_(torch.randn(3, 5))
    return layer


@pytest.mark.parametrize("granularity", ["node", "layer"])
def test_pruned_layer_equals_the_decided_selectable_layer_in_value_and_gradient(granularity):
    layer, x = decided(granularity), torch.randn(7, 3).double().requires_grad_()
    pruned = layer.prune()
    assert isinstance(pruned, KANLinear)
    assert list(pruned.columns) == (["wavelet", "bspline", "rbf"] if granularity == "node" else ["wavelet"])
    torch.testing.assert_close(pruned(x), layer(x), rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(f(x).square().sum(), x)[0] for f in (pruned, layer)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)
    fewer = sum(p.numel() for p in pruned.parameters())
    assert fewer < sum(p.numel() for p in layer.parameters()) / 2


def test_pool_of_one_family_is_a_plain_layer():
    layer = SelectableKANLinear(3, 2, families=("chebyshev",), num_basis=5)
    plain = KANLinear(3, 2, family="chebyshev", num_basis=5)
    plain.base.load_state_dict(layer.base.state_dict())
    plain.coefficients.data = layer.coefficients.data[0]
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer(x), plain(x))


def test_equal_weights_average_the_families():
    layer, x = SelectableKANLinear(2, 3, num_basis=5).double(), torch.randn(5, 2).double()
    total = layer.base(F.silu(x))
    for m, family in enumerate(layer.families.values()):
        total = total + torch.einsum("big,oig->bo", family(torch.tanh(x)), layer.coefficients[m]) / 4
    torch.testing.assert_close(layer(x), total)


def test_selective_stage_masks_light_families_and_keeps_the_sum_at_one():
    layer = SelectableKANLinear(2, 1)
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.9], [0.0, 0.0, 0.0, 0.0]]))
    model = selection_stage(nn.Sequential(layer), "selective")
    weights = layer.weights()
    assert (weights[0] == 0).tolist() == [False, True, True, False]
    torch.testing.assert_close(weights[0, [0, 3]], torch.tensor([1.0, 0.9]).softmax(0))
    torch.testing.assert_close(weights[1], torch.full((4,), 0.25))
    weights[0].square().sum().backward()
    assert (layer.logits.grad[0] != 0).tolist() == [True, False, False, True]
    selection_stage(model, "full")
    assert (layer.weights() > 0).all()


def test_pruning_a_model_leaves_plain_layers_and_no_stage():
    model = nn.Sequential(SelectableKANLinear(1, 4), nn.Identity(), SelectableKANLinear(4, 1))
    pruned = prune_kan(model)
    assert [type(m) for m in pruned] == [KANLinear, nn.Identity, KANLinear]
    assert pruned(torch.randn(3, 1)).shape == (3, 1)
    with pytest.raises(ValueError, match="pruned already"):
        selection_stage(pruned, "full")
    with pytest.raises(ValueError, match="stage must be one of 'full', 'selective', got 'third'"):
        selection_stage(model, "third")
