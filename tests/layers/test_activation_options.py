"""Options of the activations at their ends: start values, no squashing, ties, poles, edges of pieces."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers import activation
from course_lib.layers.activation import bases
from course_lib.layers.activation.elementwise import pade_activation, pdelu
from course_lib.layers.activation.sparsity import topk_activation, topk_activation_naive
from tests.layers.starts import starts, starts_uniform


@pytest.mark.parametrize(
    ("layer", "name", "values"),
    [
        (activation.Swish(), "beta", {"mean": 1.0}),
        (activation.Swish(beta=0.5), "beta", {"mean": 0.5}),
        (activation.PDELU(), "alpha", {"mean": 1.0}),
        (activation.PDELU(alpha=0.25), "alpha", {"mean": 0.25}),
        (activation.SRS(a=1.0, b=1.0), "log_a", {"mean": 0.0}),
        (activation.SRS(a=4.0, b=math.e), "log_b", {"mean": 1.0}),
        (activation.KANLinear(20, 30), "coefficients", {"std": 0.1 / 8**0.5}),
        (activation.SelectableKANLinear(20, 30, num_basis=5), "coefficients", {"std": 0.1 / 5**0.5}),
        (activation.SelectableKANLinear(3, 4), "logits", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_parameters_start_as_documented(layer, name, values):
    assert starts(layer, name, **values)


@pytest.mark.parametrize("make", [activation.KANLinear, activation.SelectableKANLinear])
def test_the_base_of_a_kan_starts_uniform_by_its_fans(make):
    assert starts_uniform(make(30, 20), "base.weight", (6 / 50) ** 0.5)
    assert make(3, 2).base.bias is None


def test_the_defaults_of_srs_and_where_it_has_a_pole():
    x = torch.linspace(-3, 3, 7).double()
    expected = x / (x / 5 + torch.exp(-x / 3))
    torch.testing.assert_close(activation.SRS().double()(x), expected)
    assert activation.SRS(a=1.0, b=2.7).initial_b == 2.7
    for options in ({"a": 1.0, "b": math.e}, {"a": 0.0}, {"b": 0.0}):
        with pytest.raises(ValueError, match="SRS"):
            activation.SRS(**options)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_pdelu_is_its_formula_on_both_sides_of_its_pole(t, alpha):
    x = torch.tensor([-30.0, -1 / (1 - t), -0.5, 0.0, 2.0]).double()
    inside = (1 + (1 - t) * x).clamp(min=0) ** (1 / (1 - t)) - 1
    expected = torch.where(x > 0, x, alpha * inside)
    torch.testing.assert_close(activation.PDELU(t=t, alpha=alpha).double()(x), expected)
    if t == 0.9:
        torch.testing.assert_close(pdelu(x, torch.tensor(alpha).double()), expected)
    with pytest.raises(ValueError, match="below 1"):
        activation.PDELU(t=1.0)


@pytest.mark.parametrize("slope", [0.01, 0.3])
def test_pau_begins_as_the_leaky_relu_of_its_slope(slope):
    x = torch.linspace(-3, 3, 61)
    layer = activation.PAU() if slope == 0.01 else activation.PAU(slope=slope)
    assert (layer(x) - F.leaky_relu(x, slope)).abs().max() < 0.05
    assert layer.slope == slope
    with torch.no_grad():
        layer.numerator.fill_(7)
    layer.reset_parameters()
    assert (layer(x) - F.leaky_relu(x, slope)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("a", "b"), [((1.0, 2.0, 3.0), (0.5,)), ((1.0, -2.0), (0.5, -1.0)), ((1.0, 2.0, -3.0, 4.0), (0.5, 2.0))]
)
def test_a_quotient_of_polynomials_of_any_degrees_near_and_far(a, b):
    x = torch.tensor([-1e3, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 1e3]).double()
    above = sum(c * x**k for k, c in enumerate(a))
    below = 1 + sum(c * x ** (k + 1) for k, c in enumerate(b)).abs()
    torch.testing.assert_close(
        pade_activation(x, torch.tensor(a).double(), torch.tensor(b).double()), above / below
    )


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0])
def test_the_running_mean_of_abrelu(momentum):
    layer, x = activation.ABReLU(momentum=momentum), torch.randn(50) + 3
    torch.testing.assert_close(layer(x), (x - x.mean()).relu())
    torch.testing.assert_close(layer.running_mean, momentum * x.mean())
    torch.testing.assert_close(layer.eval()(x), (x - momentum * x.mean()).relu())
    layer.reset_parameters()
    assert layer.running_mean == 0
    assert layer.train()(x[:0]).shape == (0,)
    assert layer.running_mean == 0
    assert activation.ABReLU().momentum == 0.1


# -- The largest k ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 4, 9])
def test_k_may_reach_the_width_and_pass_it(k):
    x = torch.tensor([[-1.0, 3.0, -2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    torch.testing.assert_close(topk_activation(x, k), topk_activation_naive(x, k))
    torch.testing.assert_close(activation.TopKActivation(k)(x), topk_activation_naive(x, k))
    if k >= 4:
        assert torch.equal(topk_activation(x, k), x.relu())


def test_sparsity_is_counted_in_evaluation_for_the_kinds_asked_for():
    model = nn.Sequential(nn.Dropout(0.99), nn.ReLU(), nn.Tanh())
    x = torch.tensor([[1.0, -1.0, 2.0, -2.0]])
    assert activation.activation_sparsity(model, x) == {"1": 0.5}
    assert activation.activation_sparsity(model, x, kinds=(nn.Tanh,)) == {"2": 0.5}
    assert model.training
    assert not model[1]._forward_hooks
    twice = nn.Sequential(*[model[1]] * 2)
    assert activation.activation_sparsity(twice, x) == {"0": 0.5}


# -- Bases and their layers ------------------------------------------------------------------------------


@pytest.mark.parametrize(("intervals", "degree"), [(1, 0), (4, 3), (2, 1)])
def test_knots_are_even_and_reach_as_far_over_the_ends_as_the_degree(intervals, degree):
    knots = bases.uniform_knots(intervals, degree)
    assert len(knots) == intervals + 1 + 2 * degree
    inside = knots[degree : len(knots) - degree]
    torch.testing.assert_close(inside, torch.linspace(-1, 1, intervals + 1))
    torch.testing.assert_close(knots.diff(), torch.full((len(knots) - 1,), 2 / intervals))
    torch.testing.assert_close(bases.uniform_knots(4), bases.uniform_knots(4, 3))
    for wrong in ((0, 3), (1, -1)):
        with pytest.raises(ValueError, match="at least one interval"):
            bases.uniform_knots(*wrong)


def test_a_spline_of_degree_zero_holds_the_left_knot_and_not_the_right():
    x, knots = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
    assert bases.bspline_basis(x, knots, 0).tolist() == [[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]]
    cubic = bases.uniform_knots(3)
    torch.testing.assert_close(bases.bspline_basis(x, cubic), bases.bspline_basis(x, cubic, 3))
    with pytest.raises(ValueError, match="at least 5 knots"):
        bases.bspline_basis(x, cubic[:4])
    assert bases.bspline_basis(x, cubic[:5]).shape == (5, 1)


@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_chebyshev_polynomials_from_degree_zero_on(degree):
    x = torch.linspace(-1, 1, 9).double()
    expected = torch.stack([torch.cos(n * x.arccos()) for n in range(degree + 1)], -1)
    torch.testing.assert_close(bases.chebyshev_basis(x, degree), expected)


@pytest.mark.parametrize("family", list(activation.KAN_FAMILIES))
@pytest.mark.parametrize("squash", [True, False])
def test_a_basis_sees_squashed_inputs_unless_told_otherwise(family, squash):
    layer, x = activation.KANLinear(2, 3, family=family, num_basis=5, squash=squash), 0.4 * torch.randn(6, 2)
    seen = x.tanh() if squash else x
    nodes = torch.linspace(-1, 1, 5)
    expected = {
        "bspline": lambda: bases.bspline_basis(seen, bases.uniform_knots(2)),
        "chebyshev": lambda: bases.chebyshev_basis(seen, 4),
        "rbf": lambda: bases.rbf_basis(seen, nodes, 0.5),
        "wavelet": lambda: bases.wavelet_basis(seen, nodes, torch.full((5,), 0.5)),
    }[family]()
    torch.testing.assert_close(layer.basis(x), expected)
    y = layer.base(F.silu(x)) + torch.einsum("bin,oin->bo", expected, layer.coefficients)
    torch.testing.assert_close(layer(x), y)
    only = activation.SelectableKANLinear(2, 3, families=(family,), num_basis=5, squash=squash)
    y = only.base(F.silu(x)) + torch.einsum("bin,oin->bo", expected, only.coefficients[0])
    torch.testing.assert_close(only(x), y)
    torch.testing.assert_close(only.prune()(x), y)


def test_the_defaults_of_kans():
    assert activation.KANLinear(2, 3).columns == {"bspline": [0, 1]}
    assert activation.KANLinear(2, 3).num_basis == 8
    layer = activation.SelectableKANLinear(2, 3)
    assert list(layer.families) == list(activation.KAN_FAMILIES)
    assert (layer.num_basis, layer.granularity, layer.logits.shape) == (8, "node", (2, 4))
    assert activation.SelectableKANLinear(2, 3, granularity="layer").logits.shape == (1, 4)
    assert layer.prune().squash
    assert activation.KANLinear(2, 3, num_basis=4).num_basis == 4
    for options in ({"num_basis": 3}, {"families": ()}, {"families": ("rbf", "rbf")}):
        with pytest.raises(ValueError, match=next(iter(options))):
            activation.SelectableKANLinear(2, 3, **options)


@pytest.mark.parametrize("granularity", ["node", "layer"])
def test_the_selective_stage_keeps_what_has_its_even_share(granularity):
    layer = activation.SelectableKANLinear(2, 3, granularity=granularity)
    torch.testing.assert_close(layer.weights(), torch.full((2, 4), 0.25))
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([1.0, 0.9, -5.0, -6.0]))
    model = nn.Sequential(layer)
    activation.selection_stage(model, "selective")
    expected = torch.cat([torch.tensor([1.0, 0.9]).softmax(0), torch.zeros(2)]).expand(2, 4)
    torch.testing.assert_close(layer.weights(), expected)
    activation.selection_stage(model, "full")
    torch.testing.assert_close(layer.weights(), layer.logits.softmax(-1).expand(2, -1))
    with torch.no_grad():
        layer.logits.zero_()
    activation.selection_stage(model, "selective")
    torch.testing.assert_close(layer.weights(), torch.full((2, 4), 0.25))  # a tie keeps all


# -- Gates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_the_width_and_biases_of_a_bilinear_layer(bias):
    layer, x = activation.BilinearMLP(4, 3, bias=bias), torch.randn(5, 4)
    assert layer.out_features == 4
    assert layer.out.bias is None
    assert (layer.left.bias is not None) == bias
    z = layer.augment(x)
    assert z.shape == (5, 4 + bias)
    raw, even = (activation.bilinear_tensor(layer, symmetric=s) for s in (False, True))
    torch.testing.assert_close(activation.bilinear_tensor(layer), even)
    torch.testing.assert_close(even, even.mT)
    torch.testing.assert_close(raw + raw.mT, 2 * even)
    for tensor in (raw, even):
        torch.testing.assert_close(activation.quadratic_forms(tensor, z), layer(x))
    assert (raw - even).abs().max() > 1e-3


@pytest.mark.parametrize("full", [True, False])
def test_an_activator_block_has_its_second_half_unless_told_otherwise(full):
    model = activation.Activator(
        1, 3, image_size=4, patch=2, dim=6, hidden_dim=8, depth=2, full=full, dropout=0.5
    )
    assert [block.mlp is not None for block in model.blocks] == [full] * 2
    drops = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.5] * (4 if full else 0)
    default = activation.Activator(1, 3, image_size=4, patch=2, dim=6, hidden_dim=8, depth=1)
    assert [m.p for m in default.modules() if isinstance(m, nn.Dropout)] == [0.0, 0.0]
    block, x = activation.ActivatorBlock(6, 8), torch.randn(2, 5, 6)
    half = x + block.gate(block.norm(x))
    torch.testing.assert_close(block(x), half + block.mlp(block.norm(half)))
    assert activation.Activator(1, 3, image_size=4, patch=2, dim=6, hidden_dim=8, depth=0).blocks is not None


# -- Properties ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: 0 * x, {"monotone": True, "zero_centred": True, "saturates_left": True, "max_slope": 0.0}),
        (lambda x: -x, {"monotone": False, "low": -math.inf, "high": math.inf, "max_slope": 1.0}),
        (
            lambda x: x.square(),
            {"low": 0.0, "high": math.inf, "monotone": False, "mean": 1.0, "variance": 2.0},
        ),
        (lambda x: x.relu(), {"smooth": False, "saturates_left": True, "saturates_right": False}),
        (lambda x: (-x).relu(), {"saturates_left": False, "saturates_right": True}),
        (torch.tanh, {"low": -1.0, "high": 1.0, "smooth": True, "zero_centred": True, "bounded": True}),
        (torch.sigmoid, {"zero_centred": False, "mean": 0.5, "parameters": 0}),
        (lambda x: x.clamp(min=-1), {"low": -1.0, "high": math.inf, "bounded": False}),
    ],
)
def test_properties_of_known_functions(f, expected):
    found = activation.activation_properties(f)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=2e-3), name
