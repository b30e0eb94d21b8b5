"""The eighteen functions, their computed properties and sparsity, against torch, mpmath, scipy and limits."""

import math

import mpmath
import pytest
import torch
from scipy.optimize import least_squares
from torch import nn
from torch.nn import functional as F

from course_lib.layers.activation import (
    ACTIVATION_FAMILIES,
    ACTIVATIONS,
    PAU,
    PDELU,
    SRS,
    ABReLU,
    ActivationProperties,
    ElliottSigmoid,
    LiSHT,
    Swish,
    TopKActivation,
    activation_properties,
    activation_sparsity,
    elliott_sigmoid,
    lisht,
    pade_activation,
    pade_fit,
    pdelu,
    srs,
    topk_activation,
    topk_activation_naive,
)

mpmath.mp.dps = 30
GRID = [-1000.0, -37.5, -10.0, -3.0, -1.0, -1e-3, 1e-9, 0.3, 1.0, 4.0, 50.0, 1000.0]


def value_and_slope(f, x):
    x = x.clone().requires_grad_()
    y = f(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def exact_pdelu(x):
    return x if x > 0 else max(1 + x / 10, mpmath.mpf(0)) ** 10 - 1


# each from its formula in the survey, in 30 digits
EXACT = {
    "Elliott": lambda x: x / 2 / (1 + abs(x)) + mpmath.mpf(1) / 2,
    "LiSHT": lambda x: x * mpmath.tanh(x),
    "Swish": lambda x: x / (1 + mpmath.exp(-x)),
    "SRS": lambda x: x / (x / 5 + mpmath.exp(-x / 3)),
    "PDELU": exact_pdelu,
    "Sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "Tanh": mpmath.tanh,
    "ReLU": lambda x: max(x, mpmath.mpf(0)),
    "LReLU": lambda x: x if x > 0 else x / 100,
    "PReLU": lambda x: x if x > 0 else x / 4,
    "ELU": lambda x: x if x > 0 else mpmath.expm1(x),
    "CELU": lambda x: x if x > 0 else mpmath.expm1(x),
    "SELU": lambda x: (
        mpmath.mpf("1.0507009873554805")
        * (x if x > 0 else mpmath.mpf("1.6732632423543772") * mpmath.expm1(x))
    ),
    "GELU": lambda x: x * mpmath.ncdf(x),
    "Softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "Mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "ABReLU": lambda x: max(x, mpmath.mpf(0)),  # in evaluation, before any batch was seen
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_slopes_equal_the_formula_in_thirty_digits(name):
    f = ACTIVATIONS[name]().double().eval()
    x = torch.tensor(GRID, dtype=torch.float64)
    y, slope = value_and_slope(f, x)
    points = [mpmath.mpf(v) for v in GRID]
    # central differences in 30 digits; the mean value near a kink is avoided by the grid
    step = mpmath.mpf("1e-12")
    exact_slope = [(EXACT[name](p + step) - EXACT[name](p - step)) / (2 * step) for p in points]
    tolerance = 1e-7 if name in ("SRS", "PDELU", "Softplus") else 1e-9  # learned in float32; a linear tail
    for ours, exact in ((y, [EXACT[name](p) for p in points]), (slope, exact_slope)):
        expected = torch.tensor([float(v) for v in exact], dtype=torch.float64)
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def test_the_registry_holds_eighteen_fresh_modules_in_five_families():
    assert len(ACTIVATIONS) == 18
    assert sorted(name for names in ACTIVATION_FAMILIES.values() for name in names) == sorted(ACTIVATIONS)
    x = torch.randn(3, 1, 7)
    for make in ACTIVATIONS.values():
        f = make()
        assert f is not make()
        assert f(x).shape == x.shape


@pytest.mark.parametrize("f", [elliott_sigmoid, lisht], ids=["elliott", "lisht"])
def test_functions_equal_their_modules(f):
    module = {"elliott_sigmoid": ElliottSigmoid, "lisht": LiSHT}[f.__name__]()
    x = torch.linspace(-5, 5, 23)
    assert torch.equal(f(x), module(x))


def test_elliott_mirrors_around_one_half_and_lisht_is_even():
    x = torch.linspace(0, 30, 101).double()
    torch.testing.assert_close(elliott_sigmoid(x) + elliott_sigmoid(-x), torch.ones_like(x))
    assert torch.equal(lisht(x), lisht(-x))


def test_swish_with_sharpness_one_is_silu_and_with_a_high_one_relu():
    x = torch.linspace(-5, 5, 100).double()
    for peer, beta in ((F.silu, 1.0), (torch.relu, 1e4)):
        torch.testing.assert_close(value_and_slope(Swish(beta=beta).double(), x), value_and_slope(peer, x))


def test_abrelu_subtracts_the_mean_of_the_batch_and_in_evaluation_its_running_average():
    f, x = ABReLU(momentum=0.5), torch.randn(5, 7) + 3
    torch.testing.assert_close(f(x), torch.relu(x - x.mean()))
    f.eval()
    torch.testing.assert_close(f(x), torch.relu(x - 0.5 * x.mean()))
    torch.testing.assert_close(f(x[:1]), f(x)[:1])
    f.reset_parameters()
    assert torch.equal(f(x), torch.relu(x))


def test_pdelu_tends_to_elu_and_is_level_below_the_clamp():
    x = torch.linspace(-8, 4, 97).double()
    torch.testing.assert_close(pdelu(x, torch.tensor(1.0), 1 - 1e-7), F.elu(x), rtol=1e-5, atol=1e-5)
    y, slope = value_and_slope(
        lambda x: pdelu(x, torch.tensor(2.0).double()), torch.tensor([-10.1, -1e6]).double()
    )
    assert torch.equal(y, torch.full_like(y, -2.0))
    assert torch.equal(slope, torch.zeros_like(slope))


def test_pdelu_leaves_its_input_alone_and_keeps_its_negative_branch():
    x = torch.tensor([-1.0, 2.0])
    y = PDELU()(x)
    assert torch.equal(x, torch.tensor([-1.0, 2.0]))
    assert y[0] < -0.5


@pytest.mark.parametrize(("t", "word"), [(-0.1, "at least 0"), (1.0, "use torch.nn.ELU")])
def test_pdelu_refuses_a_deformation_outside_its_range(t, word):
    with pytest.raises(ValueError, match=word):
        PDELU(t=t)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.9])
def test_pdelu_keeps_the_digits_of_small_inputs_in_float32_and_has_finite_slopes_at_its_ends(t):
    x = -torch.logspace(-30, 0, 61)
    exact = [
        mpmath.expm1(mpmath.log1p((1 - t) * mpmath.mpf(v)) / (1 - mpmath.mpf(t))) for v in x[:-1].tolist()
    ]
    torch.testing.assert_close(
        pdelu(x, torch.tensor(1.0), t)[:-1], torch.tensor([float(v) for v in exact]), rtol=1e-5, atol=0.0
    )
    ends = torch.tensor([-torch.inf, -1e30, -1 / (1 - t), 0.0])
    y, slope = value_and_slope(lambda x: pdelu(x, torch.tensor(1.0), t), ends)
    torch.testing.assert_close(y, torch.tensor([-1.0, -1.0, -1.0, 0.0]))
    torch.testing.assert_close(slope, torch.tensor([0.0, 0.0, 0.0, 1.0]))


def test_srs_with_large_constants_is_the_identity_and_is_bounded_by_a():
    x = torch.linspace(-4, 4, 101).double()
    large = torch.tensor(1e9).double()
    torch.testing.assert_close(srs(x, large, large), x, rtol=1e-6, atol=1e-6)
    far = SRS(a=2.0, b=1.0)(torch.tensor([1e4, -1e4]))
    torch.testing.assert_close(far, torch.tensor([2.0, 0.0]))


@pytest.mark.parametrize(
    ("a", "b", "word"), [(-5.0, 3.0, "a must"), (5.0, 0.0, "b must"), (1.0, math.e, "b < e a")]
)
def test_srs_refuses_constants_with_a_pole(a, b, word):
    with pytest.raises(ValueError, match=word):
        SRS(a=a, b=b)
    SRS(a=1.0, b=2.7)


def test_learned_constants_have_right_gradients():
    x = torch.tensor([-30.0, -2.0, -0.3, 0.7, 4.0]).double()  # away from the kinks
    for f in (PDELU(), SRS(), Swish(), PAU()):
        f = f.double()
        names = [name for name, _ in f.named_parameters()]
        start = [p.detach().clone().requires_grad_() for p in f.parameters()]

        def value(*values, f=f, names=names):
            return torch.func.functional_call(f, dict(zip(names, values, strict=True)), x)

        assert torch.autograd.gradcheck(value, start)


def test_pade_equals_two_polynomials_of_numpy_style():
    x, a, b = torch.randn(9).double(), torch.randn(6).double(), torch.randn(4).double()
    above = sum(a[k] * x**k for k in range(6))
    below = 1 + sum(b[k - 1] * x**k for k in range(1, 5)).abs()
    torch.testing.assert_close(pade_activation(x, a, b), above / below)


@pytest.mark.parametrize(
    ("degrees", "dtype"), [((6, 4), torch.float16), ((6, 4), torch.float32), ((5, 3), torch.float32)]
)
def test_pade_is_finite_as_far_as_its_quotient_is(degrees, dtype):
    a, b = torch.rand(degrees[0]).double() + 0.5, torch.rand(degrees[1]).double() + 0.5
    x = torch.tensor([30.0, 300.0, 5000.0] if dtype == torch.float16 else [30.0, 1e9, 1e18])
    x = torch.cat([x, -x]).to(dtype)
    y, slope = value_and_slope(lambda x: pade_activation(x, tuple(a.to(dtype)), tuple(b.to(dtype))), x)
    wide, wide_slope = value_and_slope(lambda x: pade_activation(x, a, b), x.double())
    tolerance = {"rtol": 1e-2 if dtype == torch.float16 else 1e-5, "atol": 0.0}
    torch.testing.assert_close(y.double(), wide, **tolerance)
    torch.testing.assert_close(slope.double(), wide_slope, **tolerance)
    exact = [
        sum(c * mpmath.mpf(v) ** k for k, c in enumerate(a.tolist()))
        / (1 + abs(sum(c * mpmath.mpf(v) ** (k + 1) for k, c in enumerate(b.tolist()))))
        for v in x.tolist()
    ]
    torch.testing.assert_close(wide, torch.tensor([float(v) for v in exact]).double())


def test_pade_start_is_near_the_leaky_relu_and_near_the_best_quotient():
    x = torch.linspace(-3, 3, 301).double()
    target = F.leaky_relu(x, 0.01)

    def residual(p):
        p = torch.as_tensor(p, dtype=torch.float64)
        return (pade_activation(x, p[:6], p[6:]) - target).numpy()

    start = torch.cat(pade_fit(lambda x: F.leaky_relu(x, 0.01)))
    ours = (residual(start) ** 2).mean() ** 0.5
    best = (least_squares(residual, start.numpy()).fun ** 2).mean() ** 0.5
    assert ours < 0.01
    assert ours < 1.2 * best
    torch.testing.assert_close(PAU()(x.float()).double(), target, rtol=0.0, atol=0.05)


def test_a_fit_refuses_a_function_that_is_not_finite_and_no_steps():
    with pytest.raises(ValueError, match="finite on"):
        pade_fit(torch.log)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1, got 0"):
        pade_fit(torch.relu, steps=0)


def test_properties_of_known_functions():
    relu = activation_properties(nn.ReLU())
    assert isinstance(relu, ActivationProperties)
    assert (relu.low, relu.high, relu.monotone, relu.smooth) == (0.0, math.inf, True, False)
    assert (relu.saturates_left, relu.saturates_right, relu.bounded, relu.parameters) == (
        True,
        False,
        False,
        0,
    )
    # E relu(z) = 1/sqrt(2 pi), E relu(z)^2 = 1/2
    assert relu.mean == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-6)
    assert relu.variance == pytest.approx(0.5 - 1 / (2 * math.pi), abs=1e-6)
    tanh = activation_properties(torch.tanh)
    assert (tanh.low, tanh.high) == pytest.approx((-1.0, 1.0))
    assert tanh.bounded
    assert tanh.zero_centred
    assert tanh.smooth
    assert tanh.max_slope == pytest.approx(1.0, abs=1e-6)
    assert activation_properties(torch.sigmoid).zero_centred is False


def test_selu_keeps_mean_zero_and_variance_one():
    found = activation_properties(nn.SELU())
    assert found.mean == pytest.approx(0.0, abs=1e-5)
    assert found.variance == pytest.approx(1.0, abs=1e-5)


def test_properties_tell_the_functions_apart():
    found = {name: activation_properties(make()) for name, make in ACTIVATIONS.items()}
    assert {n for n, p in found.items() if not p.monotone} == {"GELU", "Swish", "LiSHT", "SRS", "Mish", "PAU"}
    assert {n for n, p in found.items() if p.bounded} == {"Sigmoid", "Tanh", "Elliott", "SRS"}
    assert {n for n, p in found.items() if not p.smooth} == {"ReLU", "LReLU", "PReLU", "SELU", "ABReLU"}
    not_centred = {n for n, p in found.items() if not p.zero_centred}
    assert not_centred == {"Sigmoid", "Elliott", "Softplus", "PAU"}
    assert {n: p.parameters for n, p in found.items() if p.parameters} == {
        "PReLU": 1,
        "Swish": 1,
        "SRS": 2,
        "PAU": 10,
        "PDELU": 1,
    }


def test_properties_refuse_what_is_not_element_wise_or_finite():
    with pytest.raises(ValueError, match="element-wise"):
        activation_properties(lambda x: x[::2])
    with pytest.raises(ValueError, match="finite"):
        activation_properties(torch.log)


def test_properties_leave_the_module_alone():
    f = ABReLU()
    activation_properties(f)
    assert f.training
    assert f.running_mean == 0.0
    assert f.running_mean.dtype == torch.float32


@pytest.mark.parametrize("shape", [(1,), (5, 3), (2, 3, 7)], ids=str)
@pytest.mark.parametrize("k", [1, 2, 5, 100])
def test_top_k_equals_its_sorted_form_in_value_and_gradient(shape, k):
    x = torch.randn(*shape).double()
    fast, slow = (
        value_and_slope(lambda x, f=f: f(x, k).square(), x) for f in (topk_activation, topk_activation_naive)
    )
    torch.testing.assert_close(fast, slow)
    assert (topk_activation(x, k) != 0).sum(-1).max() <= k


def test_top_k_of_the_whole_width_is_relu_and_of_one_the_masked_maximum():
    x = torch.randn(4, 9).double()
    assert torch.equal(TopKActivation(9)(x), torch.relu(x))
    top = x.amax(-1, keepdim=True)
    assert torch.equal(TopKActivation(1)(x), torch.where(x == top, top.clamp(min=0), 0.0))


def test_top_k_passes_gradients_through_kept_entries_only():
    x = torch.tensor([[4.0, -1.0, 3.0, 2.0, 1.0]]).double()
    assert torch.equal(
        value_and_slope(TopKActivation(2), x)[1], torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0]]).double()
    )
    assert torch.autograd.gradcheck(TopKActivation(2), x.requires_grad_())


def test_top_k_where_all_are_negative_is_zero_and_k_zero_is_refused():
    assert TopKActivation(2)(-torch.rand(3, 5)).count_nonzero() == 0
    with pytest.raises(ValueError, match="TopKActivation: k must be an integer of at least 1, got 0"):
        TopKActivation(0)


@pytest.mark.parametrize("f", [Swish(), PDELU(), SRS()], ids=lambda f: type(f).__name__)
def test_learned_constants_are_vectors_of_one_and_leave_shape_and_dtype_of_the_input_alone(f):
    assert [p.shape for p in f.parameters()] == [(1,)] * len(list(f.parameters()))
    assert f(torch.tensor(1.0)).shape == ()
    assert f(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_sparsity_is_one_half_for_symmetric_weights_and_falls_to_k_for_top_k():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 4000, bias=False), nn.ReLU(), nn.Linear(4000, 64), TopKActivation(4))
    found = activation_sparsity(model, torch.randn(32, 16))
    assert found["1"] == pytest.approx(0.5, abs=0.03)
    assert found["3"] == pytest.approx(4 / 64)


def test_sparsity_counts_all_calls_of_a_shared_layer_and_puts_modes_and_hooks_back():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.drop = nn.ReLU(), nn.Dropout(0.9).eval()

        def forward(self, x):
            return self.act(x) + self.act(-x[:, :1])

    model = Twice()
    x = torch.tensor([[1.0, 2.0, -3.0]])
    assert activation_sparsity(model, x) == {"act": 2 / 4}
    assert model.training
    assert not model.drop.training
    assert not model.act._forward_hooks


def test_sparsity_refuses_a_model_without_activation_modules():
    with pytest.raises(ValueError, match="no ReLU, TopKActivation was called"):
        activation_sparsity(nn.Linear(2, 2), torch.randn(1, 2))
    found = activation_sparsity(nn.Sequential(nn.GELU()), torch.ones(1, 2), kinds=(nn.GELU,))
    assert found == {"0": 1.0}
