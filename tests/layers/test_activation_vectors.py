"""Activations, gates and learned functions beside the authors' released code, on the same numbers."""

import math

import pytest
import torch
from torch import nn

from course_lib.layers.activation import (
    ACTIVATIONS,
    PDELU,
    ABReLU,
    Activator,
    ActivatorBlock,
    ActivatorGatingUnit,
    KANLinear,
    chebyshev_basis,
    pade_activation,
    rbf_basis,
    srs,
    wavelet_basis,
)
from tests.vectors import fill, vector

# -- The survey ------------------------------------------------------------------------------------


def given(name):
    """The stored entry, and three times the input."""
    saved = vector("activation-survey", name)
    return saved, 3 * saved.given()[0]


@pytest.mark.parametrize("name", ["Elliott", "LiSHT", "Mish", "Swish"])
def test_functions_and_slopes_are_those_of_the_survey(name):
    saved, x = given(name)
    f = ACTIVATIONS[name]()
    fill(f, saved.weights(), {"beta": "weight"})
    y = f(x.requires_grad_())
    saved.check(y, *torch.autograd.grad(y.sum(), x))


def test_abrelu_in_training_is_that_of_the_survey_which_has_no_other_mode():
    saved, x = given("ABReLU")
    saved.check(ABReLU().double()(x))


def test_srs_of_the_survey_is_ours_but_for_three_hundredths():
    saved, x = given("SRS")
    a, b = (50 * w.abs().squeeze() + 1e-2 for w in saved.weights().values())
    saved.check(x / (x / srs(x, a, b) + 1e-2))


def test_pdelu_of_the_survey_is_a_relu_and_ours_is_not():
    saved, x = given("PDELU")
    saved.check(x.relu())
    assert (PDELU().double()(x) - x.relu()).abs().max() > 0.5


def test_the_quotient_of_the_survey_sums_absolute_values_where_ours_takes_that_of_the_sum():
    saved, x = given("PAU")
    denominator, numerator = saved.weights()["weight_denominator"], saved.weights()["weight_numerator"]
    top = sum(a * x**k for k, a in enumerate(numerator))
    saved.check(top * pade_activation(x.abs(), torch.ones(1).double(), denominator.abs()))
    right = x > 0  # there the two agree, if no coefficient is negative
    ours = pade_activation(x[right], numerator, denominator.abs())
    torch.testing.assert_close(ours, saved.output["output"][right], rtol=1e-6, atol=1e-6)


# -- Activator -------------------------------------------------------------------------------------

GATE = {"gate": "proj_1", "value": "proj_2", "out": "proj_3", "norm": "norm"}


def block_name(name, prefix=""):
    """A name inside a block."""
    head, _, rest = name.partition(".")
    if head == "gate":
        part, kind = rest.split(".")
        return f"{prefix}actgu.{GATE[part]}.{kind}"
    if head == "mlp":
        return f"{prefix}ffn.net.{rest}"
    return f"{prefix}{name}"


def test_the_gate_is_the_authors():
    saved = vector("activator-glu", "gate")
    gate = ActivatorGatingUnit(5, 7)
    fill(gate, saved.weights(), lambda name: f"{GATE[name.split('.')[0]]}.{name.split('.')[1]}")
    saved.check(gate(saved.given()[0]))


@pytest.mark.parametrize("form", ["full", "reduced"])
def test_both_forms_of_the_block_are_the_authors(form):
    saved = vector("activator-glu", f"{form} block")
    block = ActivatorBlock(5, 7, full=form == "full", dropout=0.5)
    fill(block, saved.weights(), block_name)
    saved.check(block.eval()(saved.given()[0]))


def test_the_network_is_the_authors():
    saved = vector("activator-glu", "network")
    network = Activator(1, 3, image_size=8, patch=2, dim=6, hidden_dim=7, depth=2, dropout=0.5)

    def theirs(name):
        head, _, rest = name.partition(".")
        if head == "blocks":
            block, _, rest = rest.partition(".")
            return block_name(rest, f"model.{block}.")
        return f"{'patcher' if head == 'embed_patch' else 'classifier'}.{rest}"

    fill(network, saved.weights(), theirs)
    saved.check(network.eval()(saved.given()[0]))


# -- Learned functions: the layers of the authors' convolutional form --------------------------------


def test_the_layer_of_splines_is_the_authors():
    saved = vector("s-kan", "splines")
    layer, weights = KANLinear(3, 4, num_basis=8, squash=False), saved.weights()
    weights["coefficients"] = weights["spline_weight"] * weights["spline_scaler"][..., None]
    fill(layer, weights, {"base.weight": "base_weight", "coefficients": "coefficients"})
    saved.check(layer(saved.given()[0]))


def test_the_polynomials_are_the_authors_who_have_no_smooth_branch_there():
    saved = vector("s-kan", "polynomials")
    coefficients = saved.weights()["cheby_coeffs"]  # in, out, degree
    saved.check(torch.einsum("big,iog->bo", chebyshev_basis(saved.given()[0], 5), coefficients))
    layer = KANLinear(3, 4, family="chebyshev", num_basis=6, squash=False)
    weights = {"coefficients": coefficients.transpose(0, 1), "base": torch.zeros(4, 3)}
    fill(layer, weights, {"base.weight": "base", "coefficients": "coefficients"})
    saved.check(layer(saved.given()[0]))


def test_the_bumps_are_the_authors():
    saved = vector("s-kan", "bumps")
    centres = torch.linspace(-1, 1, 6, dtype=torch.float64)
    saved.check(rbf_basis(saved.given()[0], centres, 2 / 5))


def test_the_hats_are_the_authors_upside_down_and_one_for_each_edge():
    saved = vector("s-kan", "wavelets")
    x, weights = saved.given()[0], saved.weights()
    hats = [
        wavelet_basis(x, weights["translation"][o, :, None], 1 + weights["scale"][o, :, None])[..., 0]
        for o in range(4)
    ]
    height = -2 / (math.sqrt(3) * math.pi**0.25)
    edges = height * torch.stack(hats, 1) * weights["wavelet_weights"]
    saved.check(edges.sum(2) + nn.functional.linear(nn.functional.silu(x), weights["weight1"]))
