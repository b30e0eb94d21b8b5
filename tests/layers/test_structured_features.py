"""Kernel features against closed forms and scikit-learn; optical layers against scipy and the matrix."""

import math

import numpy as np
import pytest
import torch
from scipy.special import lambertw
from scipy.stats import unitary_group
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional as F

from course_lib.layers.structured import (
    MZIMesh,
    PhotonicLinear,
    SNNKLinear,
    arccos_features,
    bundle,
    clements_decompose,
    exp_features,
    fit_bundled,
    mzi,
    orthogonal_projections,
    saturable_absorber,
    universal_random_features,
)

# -- SNNK ------------------------------------------------------------------------------------------


def monte_carlo(products):
    """Mean and standard error over the draws."""
    return products.mean(0), products.std(0) / len(products) ** 0.5


def test_feature_products_are_unbiased_for_exp_cosine_and_the_arc_cosine_kernel():
    g, bias = torch.randn(200_000, 3).double(), 0.4
    x, w = (F.normalize(torch.randn(3).double(), dim=0) for _ in range(2))
    frequencies = torch.tensor([1.0, -1.0]).double() / (2 * math.pi)
    spectrum = 0.5 * torch.exp(2j * math.pi * frequencies * bias)[:, None]
    m = len(g)
    phi = [universal_random_features(v, g, frequencies).reshape(2, m) for v in (x, w)]
    angle = torch.arccos(x @ w)
    cases = {
        "exp": (m * exp_features(x, g) * exp_features(w, g), (x @ w).exp()),
        "cos": (m * (spectrum * phi[0] * phi[1]).sum(0).real, (x @ w + bias).cos()),
        "arccos": (
            m * arccos_features(x, g) * arccos_features(w, g),
            (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi),
        ),
    }
    for products, expected in cases.values():
        mean, error = monte_carlo(products)
        assert abs(mean - expected) < 4 * error
        assert error < 0.02


def test_orthogonal_projections_have_normal_lengths_and_halve_no_mean_but_the_variance():
    g = orthogonal_projections(4000, 4)
    torch.testing.assert_close(g[:4] @ g[:4].mT, torch.diag(g[:4].square().sum(1)), atol=1e-4, rtol=1e-4)
    assert math.isclose(g.square().sum(1).mean().item(), 4.0, rel_tol=0.1)
    x, w = 0.3 * F.normalize(torch.randn(2, 4), dim=1)
    draws = {"orthogonal": [], "independent": []}
    for _ in range(1500):
        for name, p in (("orthogonal", orthogonal_projections(4, 4)), ("independent", torch.randn(4, 4))):
            draws[name].append(exp_features(x, p) @ exp_features(w, p))
    orthogonal, independent = (torch.stack(d) for d in draws.values())
    assert abs(orthogonal.mean() - (x @ w).exp()) < 4 * orthogonal.std() / 1500**0.5
    assert orthogonal.var() < independent.var()


def test_kernel_layer_is_linear_in_its_features_and_starts_near_the_kernel():
    torch.manual_seed(0)
    layer, x = SNNKLinear(4, 3, 5000, features=exp_features).double(), 0.3 * torch.randn(6, 4).double()
    torch.testing.assert_close(layer(x), exp_features(x, layer.projections) @ layer.psi.mT)
    weight = 0.5 * torch.randn(3, 4).double()
    with torch.no_grad():
        layer.psi.copy_(exp_features(weight, layer.projections))
    assert (layer(x) - (x @ weight.mT).exp()).abs().max() < 0.1


def test_bundled_layers_equal_the_two_and_a_bias_or_wrong_width_is_refused():
    layer, linear, x = (
        SNNKLinear(5, 7, 11).double(),
        nn.Linear(7, 3, bias=False).double(),
        torch.randn(4, 5).double(),
    )
    torch.testing.assert_close(bundle(layer, linear)(x), linear(layer(x)))
    for wrong in (nn.Linear(7, 3), nn.Linear(6, 3, bias=False)):
        with pytest.raises(ValueError, match="width 7 without bias"):
            bundle(layer, wrong)


def test_closed_form_training_is_scikit_learns_ridge_on_the_features():
    x, y = torch.randn(40, 5).double(), torch.randn(40, 3).double()
    layer = fit_bundled(SNNKLinear(5, 3, 20).double(), x, y, ridge=0.3)
    phi = arccos_features(x, layer.projections).numpy()
    peer = Ridge(0.3, fit_intercept=False).fit(phi, y.numpy())
    np.testing.assert_allclose(layer.psi.detach().numpy(), peer.coef_, rtol=1e-6)


# -- Photonics -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8])
def test_mesh_rebuilds_a_random_unitary_with_half_n_squared_interferometers(n):
    u = (
        torch.from_numpy(np.atleast_2d(unitary_group.rvs(n, random_state=n)))
        if n > 1
        else torch.tensor([[1j]])
    )
    u = u.to(torch.complex128)
    mesh = MZIMesh.from_unitary(u)
    torch.testing.assert_close(mesh.unitary.detach(), u)
    assert mesh.theta.numel() == mesh.phi.numel() == n * (n - 1) // 2


@pytest.mark.parametrize(
    "u", [torch.eye(5), torch.eye(4).flip(0), -torch.eye(3), torch.eye(6)[[1, 2, 0, 5, 3, 4]]]
)
def test_mesh_rebuilds_permutations_and_signs_where_many_entries_are_zero(u):
    torch.testing.assert_close(
        MZIMesh.from_unitary(u.to(torch.complex128)).unitary.detach(), u.to(torch.complex128)
    )


def test_interferometers_and_random_meshes_are_unitary_and_other_matrices_are_refused():
    t = mzi(torch.rand(5).double(), 6 * torch.rand(5).double())
    torch.testing.assert_close(t @ t.mH, torch.eye(2).to(t).expand(5, 2, 2))
    u = MZIMesh(5).double().unitary
    torch.testing.assert_close(u @ u.mH, torch.eye(5).to(u))
    for wrong in (2 * torch.eye(3), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="U U"):
            clements_decompose(wrong.to(torch.complex128))


def test_mesh_equals_the_product_of_its_interferometers_one_by_one():
    mesh, n = MZIMesh(4).double(), 4
    u, start = torch.eye(n).to(torch.complex128), 0
    for column in range(n):
        for mode in range(column % 2, n - 1, 2):
            t = torch.eye(n).to(torch.complex128)
            t[mode : mode + 2, mode : mode + 2] = mzi(mesh.theta[start], mesh.phi[start])
            u, start = t @ u, start + 1
    torch.testing.assert_close(mesh.unitary, torch.diag(torch.exp(1j * mesh.alpha)) @ u)
    with pytest.raises(ValueError, match="4 entries"):
        mesh(torch.randn(3))


@pytest.mark.parametrize(("i", "o"), [(4, 4), (3, 5), (5, 2), (1, 1)])
def test_programmed_chip_equals_the_linear_layer_in_value_and_gradient(i, o):
    w, x = torch.randn(o, i).double(), torch.randn(6, i).double().requires_grad_()
    chip = PhotonicLinear.from_dense(w)
    torch.testing.assert_close(chip(x), F.linear(x, w))
    gradients = [torch.autograd.grad(y.pow(3).sum(), x) for y in (chip(x), F.linear(x, w))]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(chip.weight.detach(), w)


def test_phase_noise_changes_the_matrix_in_proportion():
    w = torch.randn(6, 6).double()
    sizes = []
    for noise in (1e-4, 2e-4):
        chip, torch_seed = PhotonicLinear.from_dense(w, phase_noise=noise), torch.manual_seed(0)
        assert torch_seed
        sizes.append((chip.weight - w).norm().item())
    assert math.isclose(sizes[1] / sizes[0], 2, rel_tol=0.01)


@pytest.mark.parametrize("transmission", [0.05, 0.5])
def test_absorber_solves_its_equation_as_lamberts_function_does_in_value_and_gradient(transmission):
    x = torch.logspace(-3, 3, 25).double().requires_grad_()
    y = saturable_absorber(x, transmission=transmission, saturation=2.0)
    a = x.detach().numpy() / 2
    share = (y / x).detach()
    small = a < 300  # beyond, exp(2 a) overflows
    expected = lambertw(2 * a[small] * transmission * np.exp(2 * a[small])).real / (2 * a[small])
    np.testing.assert_allclose(share.numpy()[small], expected, rtol=1e-9)
    residual = torch.log(share / transmission) / 2 / (1 - share) - x.detach() / 2
    assert (residual.abs() / x.detach()).max() < 1e-6
    assert torch.autograd.gradcheck(
        lambda v: saturable_absorber(v, transmission=transmission), x[5:15].detach().requires_grad_()
    )
    assert math.isclose(share[0].item(), transmission, rel_tol=0.02)
    assert share[-1] > 0.99
    with pytest.raises(ValueError, match="transmission"):
        saturable_absorber(x, transmission=1.0)
