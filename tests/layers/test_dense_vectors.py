"""Dense layers, losses and types beside the authors' released code, on the same numbers."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from course_lib.experiments.layers.dense import standard_mlp
from course_lib.layers.dense import (
    AxisType,
    ElementType,
    InvertedBottleneckMLP,
    NeuralType,
    SquaredHingeLoss,
    generate_type_equivalent,
    io_signature,
    squared_hinge_loss,
    type_equivalent,
)
from course_lib.training.validation import stopping_point
from tests.vectors import fill, vector

# -- Scaling MLPs ----------------------------------------------------------------------------------


def test_the_inverted_bottleneck_mlp_is_the_authors_in_value_and_gradient():
    saved = vector("scaling-mlps", "bottleneck")
    mlp = InvertedBottleneckMLP(12, 3, dim=5, depth=2)

    def theirs(name):
        head, _, rest = name.partition(".")
        if head != "blocks":
            return f"linear_{'in' if head == 'embed' else 'out'}.{rest}"
        block, part, kind = rest.split(".")
        place = {"expand": "block.0", "contract": "block.2"}
        return f"layernorms.{block}.{kind}" if part == "norm" else f"blocks.{block}.{place[part]}.{kind}"

    fill(mlp, saved.weights(), theirs)
    x = saved.given()[0].requires_grad_()
    y = mlp(x)
    saved.check(y, *torch.autograd.grad(y.square().sum(), x))


def test_the_standard_mlp_of_the_experiment_is_the_authors():
    saved = vector("scaling-mlps", "standard")
    mlp = standard_mlp(
        12, 3, dim=5, depth=3
    )  # a matrix in, then norm, GELU, matrix three times, a matrix out

    def theirs(name):
        place, kind = name.split(".")
        place = int(place) - 1  # the first flattens
        if place in (0, 10):
            return f"linear_{'out' if place else 'in'}.{kind}"
        layer, part = divmod(place - 1, 3)
        return f"{'layernorms' if part == 0 else 'layers'}.{layer}.{kind}"

    fill(mlp, saved.weights(), theirs)
    saved.check(mlp(saved.given()[0]))


# -- CNN and SVM -----------------------------------------------------------------------------------


def test_the_squared_hinge_is_the_number_of_classes_times_the_authors_loss():
    saved = vector("cnn-svm", "loss")
    weight, scores = saved.weights()["readout_weight"].T, 1.5 * saved.given()[0]
    target = torch.tensor([0, 3, 9, 5, 5, 1])
    scores.requires_grad_()
    loss = squared_hinge_loss(scores, target, weight, c=2.0) / 10
    torch.testing.assert_close(loss, SquaredHingeLoss(c=2.0)(scores, target, weight) / 10)
    gradient = torch.autograd.grad(loss, scores)[0]
    # They score by the sign: of several classes on the right side of 0, the first one wins.
    saved.check(loss, gradient, scores.sign().argmax(1))
    assert (scores.sign().argmax(1) != scores.argmax(1)).any()


def test_the_optimum_of_the_squared_hinge_does_not_depend_on_how_often_the_rows_are_repeated():
    scores, target, weight = torch.randn(6, 4).double(), torch.arange(6) % 4, torch.randn(4, 3).double()
    once = squared_hinge_loss(scores, target, weight)
    twice = squared_hinge_loss(scores.repeat(2, 1), target.repeat(2), weight)
    torch.testing.assert_close(once, twice)


# -- NeuralArTS ------------------------------------------------------------------------------------

SEED = io_signature(nn.Conv1d(1, 1, 3, padding=1)).sizes[0]


def generated(kernels, paddings, dilations):
    """Ours as triples of kernel, padding and dilation, in these ranges."""
    found = generate_type_equivalent(
        SEED, kernel_sizes=tuple(kernels), dilations=tuple(dilations), max_padding=paddings[-1]
    )
    triples = ((c["kernel_size"], c["padding"], c["dilation"]) for c in found)
    return {triple for triple in triples if triple[1] in paddings}


def test_the_generator_finds_the_search_spaces_of_the_authors():
    low, all_of_them = range(1, 9), range(1, 18)
    for name, ours in {
        "kernels and dilations to 8": generated(low, range(40), low),
        "kernels and paddings to 8": generated(range(2, 9), low, all_of_them),
        "paddings and dilations to 8": generated(all_of_them, low, low),
    }.items():
        triples = vector("neuralarts", name).output["output"].int().tolist()
        assert set(map(tuple, triples)) == ours
        assert len(triples) == len(ours)


def test_equivalence_is_the_authors_and_their_generator_needs_a_seed_that_keeps_the_size():
    saved = vector("neuralarts", "equivalence")
    options = ((3, 1, 1, 1), (5, 2, 1, 1), (3, 0, 1, 1), (2, 1, 2, 1))
    options += ((3, 1, 1, 2), (2, 0, 1, 2), (4, 1, 1, 2), (5, 2, 1, 2))
    convs = [nn.Conv1d(1, 1, k, padding=p, dilation=d, stride=s) for k, p, d, s in options]
    tables = [[[type_equivalent(a, b, *n) for b in convs] for a in convs] for n in ((), (9,), (10,))]
    saved.check(torch.tensor(tables))
    shrinking = io_signature(nn.Conv1d(1, 1, 3)).sizes[0]
    assert vector("neuralarts", "another seed").output["output"].item() == 0
    assert len(generate_type_equivalent(shrinking)) > 0


# -- NeMo ------------------------------------------------------------------------------------------


class Spectrogram(ElementType):
    """Loudness by frequency and time."""


class MelSpectrogram(Spectrogram):
    """On another scale of frequencies."""


@dataclass(frozen=True)
class Audio(ElementType):
    """Sound of a sample rate, or of any."""

    rate: int | None = None


class Logits(ElementType):
    """Scores."""


class LogProbs(ElementType):
    """Their logarithms, normalised."""


FOUR, FIVE = AxisType("time", 4), AxisType("time", 5)
AXES = [
    ("batch", "time"), ("time", "batch"), ("batch", "channel"), ("batch", "dimension"), ("batch", FOUR),
    ("batch", FIVE), (FOUR, "batch"), ("batch",), ("batch", "any"), ("any", "time"), ("time", "any"),
    ("batch", "time", "time"), ("batch", "batch", "time"),
]  # fmt: skip
ELEMENTS = [Spectrogram(), MelSpectrogram(), Audio(), Audio(8000), Audio(16000), Logits(), LogProbs()]
CODES = ["SAME", "LESS", "GREATER", "DIM_INCOMPATIBLE", "TRANSPOSE_SAME", "", "INCOMPATIBLE"]
CODES += ["SAME_TYPE_INCOMPATIBLE_PARAMS"]


def compared(declared, given):
    """Our results in the authors' numbers."""
    return torch.tensor([[float(CODES.index(a.compare(b).name)) for b in given] for a in declared])


def test_types_compare_as_in_nemo_but_for_the_two_cases_that_the_docstring_names():
    saved = vector("nemo-neural-types", "compare").output
    spectra = [NeuralType(axes, Spectrogram()) for axes in AXES]
    mels = [NeuralType(axes, MelSpectrogram()) for axes in AXES]
    elements = [NeuralType(AXES[0], element) for element in ELEMENTS]
    assert torch.equal(compared(elements, elements).double(), saved["elements, the same axes"])
    for given, name in (
        (spectra, "axes, the same elements"),
        (mels, "axes, declared the more general elements"),
    ):
        ours, theirs = compared(spectra, given).double(), saved[name]
        for (i, declared), (j, offered) in product(enumerate(AXES), enumerate(AXES)):
            forgiven = (
                declared[-1] == "any" and len(offered) == 2 and ours[i, j] == CODES.index("INCOMPATIBLE")
            )
            forgiven |= declared[-1] == "any" and ours[i, j] == CODES.index("TRANSPOSE_SAME")
            counted = {i, j} == {11, 12}  # one kind twice
            assert (ours[i, j] != theirs[i, j]) == (forgiven or (counted and given is spectra)), (i, j)
            if forgiven:  # a declared "any" makes good what stands before it
                assert theirs[i, j] == (0 if given is spectra else 2)


# -- The Keras course: the book uses Keras' own callback -------------------------------------------


def test_the_stopping_point_is_that_of_keras():
    curves = (
        (1.0, 0.5, 0.6, 0.4, 0.7, 0.8, 0.1),
        (3, 2, 1, 0.9995, 0.9991, 0.9, 0.8999, 0.95, 0.94, 0.96, 0.2),
        (1, 2, 3, 4, 5),
        (5, 4, 3, 2, 1),
        (1, 1, 1, 1),
    )
    found = []
    for losses, patience, delta in product(curves, (1, 2, 3), (0.0, 1e-3)):
        stop, best = stopping_point(losses, patience=patience, min_delta=delta)
        found.append((-1 if stop is None else stop, best))
    vector("keras-course", "early stopping").check(torch.tensor(found))
