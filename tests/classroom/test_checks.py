"""Each check of the contract against a layer with exactly the fault that it is meant for."""

import re

import pytest
import torch
from torch import nn

from course_lib.classroom.checks import check_layer, documented_checks
from tests.classroom.layers_for_checks import (
    AddsFloat32,
    AddsOnCpu,
    AddsPositions,
    BindsTheBatch,
    BranchesOnValues,
    Cell,
    ChannelsFirst,
    ComputesOtherwiseInExport,
    DropsInEvaluation,
    DropsInTraining,
    Embeds,
    Explodes,
    ForgetsRandomFeatures,
    Gain,
    GrowsWithEveryCall,
    HasInfiniteGradient,
    HasUnusedParameter,
    HasUselessParameter,
    HasWrongBackward,
    HidesWidth,
    HoldsLambda,
    HoldsLock,
    IgnoresExtraFeatures,
    LeavesWidthToTorch,
    LooksAhead,
    LooksAheadInTraining,
    LooksBack,
    MixesDtypes,
    MixesLater,
    ReturnsDouble,
    SavesNoBias,
    ScalesItsInput,
    ShowsNoSize,
    ShowsValues,
    Sound,
    StartsAtZero,
    SubtractsBatchMean,
    SubtractsBatchMeanInTraining,
    Vanishes,
    report_of,
)

# (the check that must fail, the layer, what is declared, words of the message)
FAULTS = [
    ("output_shape_dtype", GrowsWithEveryCall, {}, r"\(3, 5, 7\) and \(3, 5, 8\)"),
    ("output_shape_dtype", ReturnsDouble, {}, "float32 in, torch.float64 out"),
    ("input_unmodified", ScalesItsInput, {}, "input 0 is changed in place"),
    ("eval_deterministic", DropsInEvaluation, {"stochastic": True}, "two calls in evaluation mode differ"),
    ("eval_deterministic", DropsInTraining, {}, "declare stochastic=True"),
    ("eval_deterministic", Sound, {"stochastic": True}, "8 seeds give one output"),
    ("gradients", HasUnusedParameter, {}, "zero gradient for unused in"),
    ("gradients", HasUselessParameter, {}, "zero gradient for shift in"),
    ("gradcheck", HasWrongBackward, {}, "finite differences for input 0, weight, bias"),
    ("state_dict_round_trip", ForgetsRandomFeatures, {}, "does not restore the output"),
    ("state_dict_round_trip", SavesNoBias, {}, "Missing key.*bias"),
    ("deepcopy_pickle", HoldsLambda, {}, "pickle fails.*lambda"),
    ("deepcopy_pickle", HoldsLock, {}, "deepcopy fails.*lock"),
    ("dtypes", AddsFloat32, {}, "bfloat16 in, torch.float32 out"),
    ("dtypes", MixesDtypes, {}, "float64: RuntimeError: .*dtype"),
    ("meta_device", AddsOnCpu, {}, "Tensor on device cpu"),
    ("batch_independent", SubtractsBatchMean, {}, "in evaluation mode; reduce"),
    ("batch_independent", SubtractsBatchMean, {"mixes_batch": True}, "allows it in training mode only"),
    ("batch_independent", SubtractsBatchMeanInTraining, {}, "declare mixes_batch=True"),
    ("batch_independent", Sound, {"mixes_batch": True}, "no row depends on another"),
    ("causal", LooksAhead, {"causal": True}, "time 0 depends on the input at time 1 in evaluation"),
    ("causal", LooksAheadInTraining, {"causal": True}, "in training mode"),
    ("causal", LooksBack, {}, "declare causal=True, or remove the mask"),
    ("permutation_equivariant", AddsPositions, {"permutation_equivariant": True}, "drop the declaration"),
    (
        "permutation_equivariant",
        LooksAhead,
        {"permutation_equivariant": True},
        "positions, masks and windows",
    ),
    ("export", BranchesOnValues, {}, "torch.export fails.*let no branch hang on values"),
    ("export", ComputesOtherwiseInExport, {}, "exported program gives another output"),
    ("export", BindsTheBatch, {}, "does not take other rows.*binds it to one batch size"),
    ("repr", ShowsNoSize, {}, "'ShowsNoSize.*shows no size"),
    ("repr", ShowsValues, {}, r"is \d{3} characters long"),
    ("output_scale", Explodes, {}, r"root mean square 1\.\d+e\+04"),
    ("output_scale", Vanishes, {}, r"root mean square 1\.\d+e-05"),
    ("wrong_last_dim", LeavesWidthToTorch, {}, "raise a RuntimeError.*compare the widths first"),
    ("wrong_last_dim", HidesWidth, {}, "name the width seen, 7"),
    ("wrong_last_dim", IgnoresExtraFeatures, {}, "7 instead of 6 entries along axis -1 are accepted"),
]


@pytest.mark.parametrize(
    ("check", "layer", "traits", "words"), FAULTS, ids=[f"{f[0]}-{f[1].__name__}" for f in FAULTS]
)
def test_a_fault_is_caught_by_the_check_meant_for_it_and_by_no_other(check, layer, traits, words):
    report = report_of(lambda: (layer(), torch.randn(3, 5, 6)), **traits)
    assert report.failed == [check]
    assert re.search(words, report.results[check].message)


def test_every_check_has_a_faulty_layer():
    assert list(dict.fromkeys(fault[0] for fault in FAULTS)) == list(documented_checks())


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
    "batch statistics later": (lambda: (MixesLater(), torch.randn(3, 5, 6)), {"mixes_batch": True}),
    "dropout": (lambda: (DropsInTraining(), torch.randn(3, 5, 6)), {"stochastic": True}),
    "sum over the past": (lambda: (LooksBack(), torch.randn(3, 5, 6)), {"causal": True}),
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
    "frozen": (lambda: (Sound().requires_grad_(False), torch.randn(3, 5, 6)), {}),
}


@pytest.mark.parametrize(("factory", "traits"), SOUND_LAYERS.values(), ids=SOUND_LAYERS)
def test_a_sound_layer_passes(factory, traits):
    report = check_layer(factory, **traits)
    assert report.ok
    assert list(report.results) == list(documented_checks())


def test_an_infinite_gradient_is_named():
    report = report_of(HasInfiniteGradient(), torch.randn(3, 5, 6))
    assert report.failed == ["gradients", "gradcheck"]
    assert "the gradient of bias is not finite" in report.results["gradients"].message


def test_without_float64_the_other_checks_still_run():
    report = report_of(MixesDtypes(), torch.randn(3, 5, 6), causal=True)
    assert "float64" in report.results["gradcheck"].message
    assert {name for name, r in report.results.items() if r.status == "not applicable"} == {
        "gradcheck",
        "permutation_equivariant",
    }
