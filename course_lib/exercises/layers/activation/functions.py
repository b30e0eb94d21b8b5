"""Functions of one number: written from basic operations, compared, and splines derived."""

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal, without
from course_lib.exercises.layers.activation._chapter import exercises
from course_lib.layers import activation as act


@exercises.add(
    cases=[
        case("a multiple of three", 3),
        case("rounding down", 4),
        case("rounding down from above the half", 8),
        case("one", 1),
        case("two", 2),
        case("a language model", 16384),
    ],
    hints=(
        "A plain MLP has 2 d h weights, a gated one 3 d h'.",
        "h' is the largest whole number with 3 h' <= 2 h: the width d cancels.",
    ),
)
def my_gated_width(hidden):
    return max(width for width in range(hidden + 1) if 3 * width <= 2 * hidden)


@my_gated_width.mistakes(
    rounded="At most as many weights: round down.",
    rounded_up="At most as many weights: round down.",
    half="Three matrices stand against two, not four.",
    same="A gated MLP has a third matrix of the same size; at the same width it is half as large again.",
    upside_down="Three matrices need a smaller width, not a larger one.",
    not_whole="A width is a whole number.",
)
def _(hidden, *, wrong):
    if wrong.rounded:
        return round(2 * hidden / 3)
    if wrong.rounded_up:
        return -(-2 * hidden // 3)
    if wrong.half:
        return hidden // 2
    if wrong.same:
        return hidden
    if wrong.upside_down:
        return 3 * hidden // 2
    return 2 * hidden / 3 if wrong.not_whole else 2 * hidden // 3


# ------------------------------------------------------------------------------- far from zero


def _numbers(*arguments):
    def given(label, *values):
        return case(label, torch.tensor(values), *arguments)

    yield given("a positive number", 1.5)
    yield given("a negative number", -0.7)
    yield given("near zero, on both sides", -1e-3, 1e-3)
    yield given("where other functions differ", -3.0, -1.0, 0.5, 2.0)
    yield given("far on the right", 30.0, 1000.0)
    yield given("far on the left", -30.0, -1000.0)


def _celu_numbers():
    yield from _numbers(1.0)
    yield case("alpha = 0.5", torch.tensor([-2.0, -0.3, 0.4]), 0.5)
    yield case("alpha = 3, a matrix", 2 * normal(3, 4), 3.0)


@exercises.add(
    cases=_celu_numbers,
    rules=[without("celu", "elu", "celu_", "selu")],
    hints=(
        "torch.where computes both branches everywhere: on the right the exponential must not overflow.",
        "x.clamp(max=0) in the exponential; torch.expm1(y) is exp(y) - 1.",
    ),
)
def my_celu(x, alpha):
    return F.celu(x, alpha)


@my_celu.mistakes(
    overflow="The branch that is not taken overflows, and zero times infinity is NaN in the gradient: clamp its input.",
    as_elu="That is ELU: in CELU alpha also divides x inside the exponential, so that the slope at zero is 1.",
    outer_alpha="The factor alpha in front is missing.",
    no_minus_one="The 1 is missing: at zero both branches must be 0.",
    zero_left="On the left it is no ReLU.",
    branches_exchanged="The branches are exchanged.",
)
def _(x, alpha, *, wrong):
    low = x if wrong.overflow else x.clamp(max=0)
    inside = low if wrong.as_elu else low / alpha
    left = (1 if wrong.outer_alpha else alpha) * (inside.exp() if wrong.no_minus_one else inside.exp() - 1)
    if wrong.zero_left:
        left = 0 * x
    return torch.where(x < 0, x, left) if wrong.branches_exchanged else torch.where(x > 0, x, left)


@exercises.add(
    cases=_numbers,
    rules=[without("mish", "mish_")],
    hints=(
        "ln(1 + e^x) has a name in torch that does not overflow: F.softplus.",
        "x * torch.tanh(F.softplus(x)).",
    ),
)
def my_mish(x):
    return F.mish(x)


@my_mish.mistakes(
    overflow="e^x overflows on the right: ln(1 + e^x) is nearly x there. F.softplus knows.",
    swish="That is x times the logistic function (SiLU).",
    no_logarithm="The logarithm is missing inside the tanh.",
    no_tanh="The tanh is missing.",
    no_x="The factor x in front is missing.",
    log_only="ln(1 + e^x), not ln(e^x), which is x.",
)
def _(x, *, wrong):
    inside = (1 + x.exp()).log() if wrong.overflow else F.softplus(x)
    if wrong.swish:
        return x * x.sigmoid()
    if wrong.no_logarithm:
        inside = 1 + x.clamp(max=30).exp()
    if wrong.log_only:
        inside = x
    gate = inside if wrong.no_tanh else inside.tanh()
    return gate if wrong.no_x else x * gate


@exercises.accept(
    hints=(
        "All three begin at zero on the far left, sink to a smallest value, and rise from there.",
        "GELU is smallest at -0.75, Mish at -1.19, SiLU at -1.28.",
    )
)
def my_falling_step(result):
    if not (isinstance(result, tuple | list) and len(result) == 2):
        return "returns two numbers, a and b"
    a, b = (float(x) for x in result)
    if not -3 <= a < b <= 3:
        return f"wants -3 <= a < b <= 3, got {a:g} and {b:g}"
    if b - a < 0.5:
        return f"wants them at least 0.5 apart, got {b - a:g}"
    x = torch.tensor([a, b], dtype=torch.float64)
    rising = [f.__name__ for f in (F.gelu, F.silu, F.mish) if f(x)[1] >= f(x)[0]]
    return f"is no counter-example for {' and '.join(rising)}: it rises from {a:g} to {b:g}" if rising else ""


# ------------------------------------------------------------------------------------------ splines


def _points():
    yield case("degree 1: a hat", torch.tensor([0.25, 1.5]), torch.tensor([0.0, 1.0, 2.0]), 1)
    yield case(
        "degree 1, intervals of different length", torch.tensor([0.5, 2.0]), torch.tensor([0.0, 1.0, 4.0]), 1
    )
    yield case("degree 2", torch.tensor([0.5, 1.5, 2.5]), torch.tensor([0.0, 1.0, 2.0, 3.0]), 2)
    yield case("outside of all splines", torch.tensor([-1.0, 9.0]), torch.tensor([0.0, 1.0, 2.0, 3.0]), 1)
    knots = torch.tensor([-2.0, -1.3, -0.2, 0.1, 0.9, 1.5, 2.7], dtype=torch.float64)
    yield case("degree 3, uneven knots", torch.linspace(-1.9, 2.6, 7, dtype=torch.float64), knots, 3)


@exercises.add(
    cases=_points,
    rules=[without("autograd")],
    hints=(
        "bspline_basis(x, knots, degree - 1) has one spline more: (n, K - degree). Each of yours needs two neighbours.",
        "left = knots[degree:-1] - knots[:-degree - 1] and right = knots[degree + 1:] - knots[1:-degree] are the lengths.",
    ),
)
def my_bspline_slope(x, knots, degree):
    columns = []
    for g in range(len(knots) - degree - 1):
        spline = lambda x, g=g: act.bspline_basis(x, knots, degree)[:, g].sum()  # noqa: E731
        columns.append(torch.func.grad(spline)(x))
    return torch.stack(columns, 1)


@my_bspline_slope.mistakes(
    no_degree="The factor p in front of both terms is missing.",
    no_lengths="Each term is divided by the length of its lower spline.",
    sum_of_both="The second term is subtracted.",
    same_spline="The two terms belong to neighbouring splines, g and g + 1.",
    same_length="Each term has the length of its own spline: t_(g+p) - t_g, and t_(g+p+1) - t_(g+1).",
    first_only="A spline rises and falls: the second term is missing.",
    own_degree="The splines on the right have the degree p - 1.",
    negative="The sign is wrong: a spline rises first.",
)
def _(x, knots, degree, *, wrong):
    lower = act.bspline_basis(x, knots, degree - 1)
    if wrong.own_degree:
        basis = act.bspline_basis(x, knots, degree)
        lower = torch.cat([basis, basis[:, -1:]], 1)
    count = len(knots) - degree - 1
    left = knots[degree : degree + count] - knots[:count]
    right = knots[degree + 1 : degree + 1 + count] - knots[1 : count + 1]
    if wrong.no_lengths:
        left, right = torch.ones_like(left), torch.ones_like(right)
    if wrong.same_length:
        right = left
    rise, fall = (
        lower[:, :count] / left,
        lower[:, :count] / right if wrong.same_spline else lower[:, 1:] / right,
    )
    fall = -fall if wrong.sum_of_both else 0 * fall if wrong.first_only else fall
    return (1 if wrong.no_degree else degree) * (rise - fall) * (-1 if wrong.negative else 1)
