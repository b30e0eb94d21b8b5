"""The validators that all layers share: each refuses what it must, and names what was built and what fits."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.layers import _shapes
from course_lib.layers._shapes import (
    require_at_least,
    require_callable,
    require_divides,
    require_eps,
    require_fraction,
    require_grid,
    require_image,
    require_integer,
    require_module,
    require_number,
    require_odd,
    require_one_of,
    require_pair,
    require_positive,
    require_real,
    require_sequence,
    require_signal,
    require_tokens,
    require_width,
)


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_integers_fit(value):
    assert require_positive("Toy", dim=value) is None


@pytest.mark.parametrize("value", [True, 2.0, "2", None, math.nan, torch.tensor(2), [2]])
def test_what_is_no_integer_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"^Toy: dim must be an integer of at least 1, got .*\(\w+\)$"):
        require_positive("Toy", dim=value)


@pytest.mark.parametrize(("minimum", "value"), [(1, 0), (1, -1), (0, -1), (2, 1)])
def test_integers_below_the_minimum_are_a_value_error(minimum, value):
    require_at_least(minimum, "Toy", steps=minimum)
    with pytest.raises(ValueError, match=rf"^Toy: steps .* at least {minimum}, got {value}$"):
        require_at_least(minimum, "Toy", steps=value)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (lambda v: require_number("Toy", x=v), [-1, 0.5, np.float32(2)], [math.nan, math.inf, -math.inf]),
        (lambda v: require_number("Toy", 0, open_low=True, x=v), [1e-9, 3], [0, -1e-9, math.nan]),
        (lambda v: require_fraction("Toy", dropout=v), [0, 0.5, 1], [-1e-9, 1 + 1e-9, math.nan]),
        (lambda v: require_eps("Toy", v), [0, 1e-12, 1], [-1e-12, math.nan, math.inf]),
    ],
)
def test_numbers_have_their_bounds(check, good, bad):
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(ValueError, match=r"^Toy: \w+ must be a finite number"):
            check(value)
    for value in ("1", None, True, torch.ones(())):
        with pytest.raises(TypeError, match=r"^Toy: \w+ must be a finite number.*\(\w+\)$"):
            check(value)


def test_a_part_must_divide_the_whole():
    require_divides("Toy", dim=12, num_heads=4)
    with pytest.raises(ValueError, match="num_heads=5 does not divide dim=12; 4 and 6 do"):
        require_divides("Toy", dim=12, num_heads=5)
    with pytest.raises(ValueError, match="num_heads=13 does not divide dim=12; 12 does"):
        require_divides("Toy", dim=12, num_heads=13)
    with pytest.raises(ValueError, match="num_heads must be an integer of at least 1, got 0"):
        require_divides("Toy", dim=12, num_heads=0)


def test_options_are_named():
    require_one_of("Toy", ("pre", "post"), norm="pre")
    for value in ("mid", None, 1):
        with pytest.raises(ValueError, match="norm must be one of 'pre', 'post', got"):
            require_one_of("Toy", ("pre", "post"), norm=value)


def test_pairs_are_one_integer_or_two():
    assert require_pair("Toy", grid=2) == (2, 2)
    assert require_pair("Toy", grid=[2, 3]) == (2, 3)
    with pytest.raises(ValueError, match=r"a pair \(rows, columns\), got \(1, 2, 3\)"):
        require_pair("Toy", grid=(1, 2, 3))
    with pytest.raises(ValueError, match=r"grid\[1\] must be an integer of at least 1, got 0"):
        require_pair("Toy", grid=(1, 0))
    with pytest.raises(TypeError, match="grid must be an integer"):
        require_pair("Toy", grid=1.5)


def test_integers_may_have_either_sign():
    require_integer("Toy", shift=-2, other=np.int64(0))
    for value in (1.5, "1", True, None, torch.tensor(1)):
        with pytest.raises(TypeError, match=r"^Toy: shift must be an integer, got .*\(\w+\)$"):
            require_integer("Toy", shift=value)


def test_windows_with_a_centre_are_odd():
    require_odd("Toy", kernel_size=1, other=7)
    for value in (0, -1, 2):
        with pytest.raises(ValueError, match=rf"^Toy: kernel_size must be .*, got {value}$|; got {value}$"):
            require_odd("Toy", kernel_size=value)
    with pytest.raises(TypeError, match=r"^Toy: kernel_size must be an integer"):
        require_odd("Toy", kernel_size=3.0)


def test_sequences_have_their_length():
    require_sequence("Toy", dims=[1, 2, 3])
    require_sequence("Toy", 2, dims=(1, 2))
    with pytest.raises(ValueError, match=r"^Toy: dims must have 2 entries, got \[1, 2, 3\]$"):
        require_sequence("Toy", 2, dims=[1, 2, 3])
    for value in (1, "ab", torch.ones(2), None):
        with pytest.raises(TypeError, match=r"^Toy: dims must be a tuple or a list, got "):
            require_sequence("Toy", dims=value)


def test_modules_and_what_builds_them():
    require_module("Toy", mixer=nn.ReLU())
    require_callable("Toy", norm_layer=nn.LayerNorm)
    for value in (nn.ReLU, 1, "x", None):
        with pytest.raises(TypeError, match=r"^Toy: mixer must be a torch\.nn\.Module, got "):
            require_module("Toy", mixer=value)
    for value in (1, "x", None):
        with pytest.raises(TypeError, match=r"^Toy: norm_layer must be callable, got "):
            require_callable("Toy", norm_layer=value)


LAYER = nn.Linear(4, 4)
FORMS = {
    "width": (lambda x: require_width(x, 4, LAYER), (2, 4), [(2, 5), ()]),
    "axis": (lambda x: require_width(x, 4, LAYER, axis=1), (2, 4, 3), [(2, 5, 3), (4,)]),
    "tokens": (lambda x: require_tokens(x, 4, LAYER), (2, 3, 4), [(3, 4), (2, 3, 5), (1, 2, 3, 4)]),
    "image": (lambda x: require_image(x, 4, LAYER), (2, 4, 3, 3), [(4, 3, 3), (2, 5, 3, 3)]),
    "sides": (
        lambda x: require_image(x, 4, LAYER, sides=(3, 5)),
        (2, 4, 3, 5),
        [(2, 4, 5, 3), (2, 4, 3, 4), (2, 5, 3, 5)],
    ),
    "multiple": (
        lambda x: require_image(x, 4, LAYER, multiple_of=2),
        (2, 4, 6, 4),
        [(2, 4, 6, 5), (2, 4, 5, 4), (2, 3, 6, 4)],
    ),
    "any image": (lambda x: require_image(x, None, LAYER), (2, 9, 3, 3), [(9, 3, 3)]),
    "signal": (lambda x: require_signal(x, 4, LAYER), (2, 4, 7), [(4, 7), (2, 5, 7), (2, 4, 7, 1)]),
    "any signal": (lambda x: require_signal(x, None, LAYER), (2, 9, 7), [(4, 7)]),
    "grid": (lambda x: require_grid(x, (2, 3), 4, LAYER), (2, 6, 4), [(2, 5, 4), (2, 6, 5), (6, 4)]),
    "any grid": (lambda x: require_grid(x, (2, 3), None, LAYER), (2, 6, 9), [(2, 5, 4)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_have_their_form_and_the_layers_own_type(form):
    check, good, bad = FORMS[form]
    check(torch.zeros(good))
    for shape in bad:
        with pytest.raises(ValueError, match=r"Linear\(in_features=4.*expects .*got shape"):
            check(torch.zeros(shape))
    for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.complex64, torch.bool):
        with pytest.raises(
            TypeError, match=rf"expects x of torch.float32, got {dtype}; convert it: x\.float"
        ):
            check(torch.zeros(good, dtype=dtype))
    with pytest.raises(ValueError, match=r"is on cpu, x is on meta; move one to the other"):
        check(torch.zeros(good, device="meta"))
    with pytest.raises(TypeError, match="expects x to be a tensor, got list"):
        check([1.0])


def test_autocast_and_mixed_precision_may_differ_from_the_parameters():
    half = torch.zeros(2, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        require_width(half, 4, LAYER)
    require_width(half, 4, LAYER, mixed=True)
    require_width(half.double(), 4, "layer_norm")
    with pytest.raises(TypeError, match=r"layer_norm expects x of real numbers, got torch\.int64"):
        require_width(half.long(), 4, "layer_norm")
    for other in (half.long(), half.double(), half.to(torch.complex64)):
        with pytest.raises(TypeError, match=r"of torch\.float32"):
            require_real(other, LAYER, mixed=True)
    with pytest.raises(TypeError, match=r"of torch\.float64"):
        require_real(half, nn.Linear(4, 4, dtype=torch.float64), mixed=True)


def test_the_type_of_a_layer_is_that_of_its_first_real_parameter():
    nested = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(4, 4, dtype=torch.float64)))
    require_real(torch.zeros(1, dtype=torch.float64), nested)
    with pytest.raises(TypeError, match=r"of torch\.float64, got torch\.float32; .* x\.to\(torch\.float64\)"):
        require_real(torch.zeros(1), nested)
    assert _shapes._first_parameter(nn.ReLU()) is None


def test_symbolic_tracing_passes_the_validators():
    class Checked(nn.Linear):
        def forward(self, x):
            require_tokens(x, 4, self)
            require_width(x, 4, self)
            return super().forward(x)

    traced = torch.fx.symbolic_trace(Checked(4, 4))
    assert traced(torch.zeros(1, 2, 4)).shape == (1, 2, 4)
