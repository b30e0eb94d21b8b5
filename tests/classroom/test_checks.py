"""Each check of the contract against a layer with exactly the fault that it is meant for."""

import re

import pytest
import torch
from torch import nn

from course_lib.classroom._contract import SLOW
from course_lib.classroom._contract.subject import Subject
from course_lib.classroom.checks import check_layer, documented_checks
from course_lib.registry import Traits
from tests.classroom import faulty_layers, layers_for_checks
from tests.classroom.layers_for_checks import (
    Bends,
    Cell,
    ChannelsFirst,
    DropsInTraining,
    Embeds,
    Gain,
    LooksAhead,
    LooksBack,
    MixesDtypes,
    MixesLater,
    Sound,
    StartsAtZero,
    Steps,
    SubtractsBatchMeanInTraining,
    only_in,
    report_of,
)


def toy(name):
    """A layer of the two files of toys."""
    return getattr(layers_for_checks, name, None) or getattr(faulty_layers, name)


# The checks that must fail, the one meant first; the layer; what is declared; words of the message.
FAULTS = [
    (
        "output_shape_dtype checkpointed state_dict_round_trip",
        "GrowsWithEveryCall",
        {},
        r"\(3, 5, 7\) and \(3, 5, 8\)",
    ),
    ("output_shape_dtype", "ReturnsDouble", {}, "float32 in, torch.float64 out"),
    ("input_unmodified checkpointed", "ScalesItsInput", {}, "input 0 is changed in place"),
    ("eval_deterministic", "DropsInEvaluation", {"stochastic": True}, "two calls in evaluation mode differ"),
    ("eval_deterministic", "DropsInTraining", {}, "declare stochastic=True"),
    ("eval_deterministic", "Sound", {"stochastic": True}, "8 seeds give one output"),
    ("gradients", "HasUnusedParameter", {}, "zero gradient for unused in"),
    ("gradients", "HasUselessParameter", {}, "zero gradient for shift in"),
    ("gradients gradcheck", "HasInfiniteGradient", {}, "the gradient of bias is not finite"),
    (
        "gradcheck ensemble",
        "HasWrongBackward",
        {},
        "for input 0, weight, bias .*into the backward of _WrongSquare",
    ),
    ("gradcheck ensemble", "WrongBehindKink", {}, "into the backward of _WrongSquare"),
    ("gradcheck", "Float32Inside", {}, "drowned by rounding"),
    ("checkpointed", "ReadsWhatItWrote", {}, "checkpoint the gradient of weight, step 0"),
    ("compiled", "ComputesOtherwiseCompiled", {}, "compile the output 0, step 0"),
    ("compiled", "ComputesOtherwiseCompiledInTraining", {}, "compile the gradient of weight, step 0"),
    ("compiled", "CountsOnlyInPython", {}, "compile the buffer steps, step 0, buffer steps, step 1"),
    ("ensemble", "BranchesOnWeights", {}, "vmap over stacked weights fails.*no branch hang on values"),
    ("export", "BranchesOnValues", {}, "torch.export fails.*let no branch hang on values"),
    ("export", "ComputesOtherwiseInExport", {}, "exported program gives another output"),
    ("export", "BindsTheBatch", {}, "does not take another number of rows.*binds it to one size"),
    ("export", "LoopsOverTime", {}, r"does not take other sizes along axis \(1,\).*a loop over it"),
    (
        "state_dict_round_trip assigned",
        "ForgetsRandomFeatures",
        {},
        "^loading the state_dict does not restore",
    ),
    ("state_dict_round_trip assigned", "SavesNoBias", {}, "Missing key.*bias"),
    (
        "state_dict_round_trip",
        "CountsTrainingOutside",
        {},
        "^after two training steps, loading the state_dict",
    ),
    ("state_dict_round_trip", "GrowsOutside", {}, r"^after grow\(\), loading the state_dict does not"),
    (
        "state_dict_round_trip",
        "GrowsToAnotherShape",
        {},
        r"^after grow\(\), load_state_dict fails: .*size mismatch",
    ),
    ("assigned", "ForgetsTable", {}, "leaves table on the meta device"),
    ("meta_build", "StartsInConstructorOnly", {}, "gain is not as built: it still holds"),
    ("meta_build", "StartsOtherwiseInConstructor", {}, "weight is not as built: mean .*; fresh"),
    ("meta_build", "LeavesCounter", {}, "steps is not as built: it still holds"),
    ("meta_build", "LooksAtStartValues", {}, "cannot be built on the meta device"),
    ("meta_device", "AddsOnCpu", {}, "Tensor on device cpu"),
    ("deepcopy_pickle", "HoldsLambda", {}, "pickle fails.*lambda"),
    ("deepcopy_pickle", "HoldsLock", {}, "deepcopy fails.*lock"),
    ("dtypes", "AddsFloat32", {}, "bfloat16 in, torch.float32 out"),
    ("dtypes default_dtype", "MixesDtypes", {}, "float64: RuntimeError: .*dtype"),
    ("default_dtype", "DecomposesAtTheStart", {}, "default dtype bfloat16: .*not implemented"),
    ("autocast", "MixesUnderAutocast", {}, "autocast to torch.bfloat16 .*dtype"),
    ("autocast half_precision", "OverflowsForward", {}, "float16 the output is not finite, in float32"),
    ("half_precision", "SquaresInHalf", {}, "relative error"),
    ("half_precision", "CancelsInHalf", {}, "relative error"),
    ("batch_independent", "SubtractsBatchMean", {}, "in evaluation mode; reduce"),
    ("batch_independent", "SubtractsBatchMean", {"mixes_batch": True}, "allows it in training mode only"),
    ("batch_independent", "SubtractsBatchMeanInTraining", {}, "declare mixes_batch=True"),
    ("batch_independent", "Sound", {"mixes_batch": True}, "no row depends on another"),
    ("causal", "LooksAhead", {"causal": True}, "time 0 depends on the input at time 1 in evaluation"),
    ("causal", "LooksAheadInTraining", {"causal": True}, "in training mode"),
    ("causal", "LooksBack", {}, "declare causal=True, or remove the mask"),
    ("streaming", "StepsWithoutState", {"causal": True}, "output at time 1 is not that of forward"),
    ("streaming", "StepsWithoutGradient", {"causal": True}, "detach no state"),
    ("streaming", "StepsInPlace", {"causal": True}, "state in place"),
    ("streaming", "PrefillsAnew", {"causal": True}, "continue from the state"),
    ("permutation_equivariant", "AddsPositions", {"permutation_equivariant": True}, "drop the declaration"),
    ("permutation_equivariant", "LooksAhead", {"permutation_equivariant": True}, "masks and windows"),
    ("repr", "ShowsNoSize", {}, "'ShowsNoSize.*shows no size"),
    ("repr", "ShowsValues", {}, r"is \d{3} characters long"),
    ("output_scale", "Explodes", {}, r"root mean square 1\.\d+e\+04"),
    ("output_scale", "Vanishes", {}, r"root mean square 1\.\d+e-05"),
    ("wrong_last_dim", "LeavesWidthToTorch", {}, "raise a RuntimeError.*compare the widths first"),
    ("wrong_last_dim", "HidesWidth", {}, "name the width seen, 7"),
    ("wrong_last_dim", "IgnoresExtraFeatures", {}, "7 instead of 6 entries along axis -1 are accepted"),
]


@pytest.mark.parametrize(
    ("checks", "layer", "traits", "words"), FAULTS, ids=[f"{f[0].split()[0]}-{f[1]}" for f in FAULTS]
)
def test_a_fault_is_caught_by_the_check_meant_for_it_and_by_no_other(checks, layer, traits, words):
    layer, (meant, *also) = toy(layer), checks.split()
    report = report_of(lambda: (layer(), torch.randn(3, 5, 6)), slow=meant in SLOW, **traits)
    assert {*report.failed} == {meant, *also}
    assert re.search(words, report.results[meant].message), report.results[meant].message


def test_every_check_has_a_faulty_layer():
    assert list(dict.fromkeys(fault[0].split()[0] for fault in FAULTS)) == list(documented_checks())


@pytest.mark.parametrize("shape", [(3, 6), (3, 5, 6)], ids=["two axes", "three axes"])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    ("check", "layer"),
    [
        ("output_shape_dtype", "GrowsWithEveryCall"),
        ("output_shape_dtype", "ReturnsDouble"),
        ("input_unmodified", "ScalesItsInput"),
        ("batch_independent", "SubtractsBatchMean"),
        ("output_scale", "Explodes"),
        ("output_scale", "Vanishes"),
        ("output_scale", "IsNotFinite"),
        ("autocast", "MixesUnderAutocast"),
        ("autocast", "OverflowsForward"),
    ],
)
def test_a_fault_in_one_mode_only_is_found_at_any_rank(check, layer, training, shape):
    layer = only_in(training, toy(layer))
    report = report_of(lambda: (layer(), torch.randn(*shape)))
    assert check in report.failed


@pytest.mark.parametrize("shape", [(3, 6), (3, 5, 6), (2, 3, 4, 6)], ids=len)
@pytest.mark.parametrize(
    ("check", "layer"),
    [
        ("gradcheck", "HasWrongBackward"),
        ("checkpointed", "ReadsWhatItWrote"),
        ("ensemble", "BranchesOnWeights"),
        ("state_dict_round_trip", "CountsTrainingOutside"),
        ("assigned", "ForgetsTable"),
        ("dtypes", "MixesDtypes"),
        ("half_precision", "SquaresInHalf"),
        ("wrong_last_dim", "HidesWidth"),
        ("wrong_last_dim", "IgnoresExtraFeatures"),
    ],
)
def test_a_fault_is_found_at_any_rank(check, layer, shape):
    layer = toy(layer)
    assert check in report_of(lambda: (layer(), torch.randn(*shape))).failed


def test_other_sides_of_an_image_are_left_open_in_export():
    class BindsTheSides(ChannelsFirst):
        def forward(self, x):
            rows, columns = (int(str(size)) if str(size).isdigit() else 5 for size in x.shape[2:])
            return super().forward(x)[:, :, :rows, :columns]

    assert report_of(lambda: (ChannelsFirst(), torch.randn(2, 6, 5, 5)), slow=True).ok
    report = report_of(lambda: (BindsTheSides(), torch.randn(2, 6, 5, 5)), slow=True)
    assert "export" in report.failed


@pytest.mark.parametrize("other", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_a_number_that_is_not_finite_on_one_side_only_is_a_difference(other):
    layer = Subject(Sound(), (torch.randn(3, 6),), Traits())
    plain, changed = torch.ones(3), torch.tensor([1.0, other, 1.0])
    for a, b in ((plain, changed), (changed, plain)):
        assert layer.differ(a, b).tolist() == [False, True, False]
    assert not layer.differ(changed, changed).any()
    assert layer.differ(torch.tensor([torch.inf]), torch.tensor([-torch.inf])).all()


SOUND_LAYERS = {
    "linear": (lambda: (Sound(), torch.randn(3, 5, 6)), {}),
    "two axes": (lambda: (Sound(), torch.randn(3, 6)), {}),
    "one row": (lambda: (Sound(), torch.randn(1, 6)), {}),
    "no batch": (lambda: (Sound(), torch.randn(6)), {}),
    "position-wise layers are equivariant": (
        lambda: (Sound(), torch.randn(3, 5, 6)),
        {"permutation_equivariant": True, "causal": True},
    ),
    "batch statistics": (
        lambda: (SubtractsBatchMeanInTraining(), torch.randn(3, 5, 6)),
        {"mixes_batch": True},
    ),
    "batch statistics later": (
        lambda: (MixesLater(), torch.randn(3, 5, 6)),
        {"mixes_batch": True, "exceptions": {"checkpointed": "its forward counts its calls"}},
    ),
    "dropout": (lambda: (DropsInTraining(), torch.randn(3, 5, 6)), {"stochastic": True}),
    "sum over the past": (lambda: (LooksBack(), torch.randn(3, 5, 6)), {"causal": True}),
    "token by token": (lambda: (Steps(), torch.randn(3, 5, 6)), {"causal": True}),
    "both directions": (lambda: (LooksAhead(), torch.randn(3, 5, 6)), {}),
    "long sequence": (lambda: (LooksBack(), torch.randn(2, 40, 6)), {"causal": True}),
    "starts at zero": (lambda: (StartsAtZero(), torch.randn(3, 5, 6)), {}),
    "channels first": (lambda: (ChannelsFirst(), torch.randn(2, 6, 5)), {}),
    "image": (lambda: (ChannelsFirst(), torch.randn(2, 6, 5, 3)), {}),
    "image, channels last": (lambda: (Sound(), torch.randn(2, 5, 3, 6)), {}),
    "state": (lambda: (Cell(), torch.randn(3, 6), (torch.randn(3, 6), torch.zeros(3, 6))), {}),
    "token ids": (lambda: (Embeds(), torch.randint(7, (3, 5))), {}),
    "one number": (lambda: (Gain(), torch.randn(3, 5, 6)), {}),
    "no parameters": (lambda: (nn.Tanh(), torch.randn(3, 5)), {}),
    "float64 from the start": (lambda: (Sound().double(), torch.randn(3, 5, 6).double()), {}),
    "kinks": (lambda: (Bends(), torch.zeros(3, 5, 6)), {}),
    "frozen": (lambda: (Sound().requires_grad_(False), torch.randn(3, 5, 6)), {}),
}


@pytest.mark.parametrize(("factory", "traits"), SOUND_LAYERS.values(), ids=SOUND_LAYERS)
def test_a_sound_layer_passes(factory, traits):
    report = check_layer(factory, slow=True, **traits)
    assert report.ok
    assert list(report.results) == list(documented_checks())


def test_without_float64_the_other_checks_still_run():
    report = report_of(MixesDtypes(), torch.randn(3, 5, 6), causal=True)
    assert "float64" in report.results["gradcheck"].message
    assert {name for name, r in report.results.items() if r.status == "not applicable"} == {
        "gradcheck",
        "half_precision",
        "meta_build",
        "default_dtype",
        "streaming",
        "permutation_equivariant",
        *SLOW,
    }
