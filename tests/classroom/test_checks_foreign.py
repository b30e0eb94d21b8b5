"""``check_layer`` without house rules: layers of other libraries pass, or fail for reasons of their own."""

import pytest
import torch
from torch import nn

from tests import peers
from tests.classroom.layers_for_checks import report_of

randn = torch.randn

SOUND = {
    "Linear": lambda: (nn.Linear(6, 4), randn(3, 5, 6)),
    "Conv2d": lambda: (nn.Conv2d(3, 4, 3), randn(2, 3, 8, 7)),
    "BatchNorm2d": lambda: (nn.BatchNorm2d(3), randn(4, 3, 5, 6)),
    "GroupNorm": lambda: (nn.GroupNorm(2, 4), randn(3, 4, 5, 6)),
    "Dropout": lambda: (nn.Dropout(0.5), torch.ones(4, 50)),
    "ReLU": lambda: (nn.ReLU(), torch.zeros(3, 5)),
    "ties": lambda: (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)), torch.zeros(2, 1, 8, 8)),
    "Embedding": lambda: (nn.Embedding(7, 4), torch.randint(7, (3, 5))),
    "LSTM": lambda: (nn.LSTM(6, 4, batch_first=True), randn(3, 5, 6)),
    "GRUCell": lambda: (nn.GRUCell(6, 4), randn(3, 6), randn(3, 4)),
    "MultiheadAttention": lambda: (nn.MultiheadAttention(8, 2, batch_first=True), *3 * [randn(2, 5, 8)]),
    "EncoderLayer": lambda: (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), randn(2, 5, 8)),
    "timm Mlp": lambda: (peers.timm_layers().Mlp(6, 12), randn(2, 5, 6)),
    "timm LayerNorm2d": lambda: (peers.timm_layers().LayerNorm2d(4), randn(2, 4, 5, 6)),
    "timm DropPath": lambda: (peers.timm_layers().DropPath(0.5), randn(8, 5, 6)),
    "timm PatchEmbed": lambda: (peers.timm_layers().PatchEmbed(8, 4, 3, 6), randn(2, 3, 8, 8)),
    "timm SqueezeExcite": lambda: (peers.timm_layers().SqueezeExcite(8), randn(2, 8, 5, 6)),
    "x-transformers RMSNorm": lambda: (peers.x_transformers().RMSNorm(6), randn(2, 5, 6)),
    "x FeedForward": lambda: (peers.x_transformers().x_transformers.FeedForward(8), randn(2, 5, 8)),
}  # fmt: skip

# The check that fails, and what its message says.
UNSOUND = {
    "x-transformers Attention": (  # softmax in float32, whatever comes in
        lambda: (peers.x_transformers().Attention(8, heads=2, dim_head=4), randn(2, 5, 8)),
        {"gradcheck": "drowned by rounding.*look for float32 inside"},
    ),
    "Bilinear": (  # autocast does not know it
        lambda: (nn.Bilinear(3, 4, 5), randn(2, 3), randn(2, 4)),
        {"autocast": "All tensors must have the same dtype"},
    ),
    "a state that is not given": (
        lambda: (nn.GRUCell(6, 4), randn(3, 6)),
        {"gradients": "zero gradient for weight_hh.*or give an example that reaches it"},
    ),
    "time before the batch": (
        lambda: (nn.MultiheadAttention(8, 2), *3 * [randn(5, 2, 8)]),
        {"batch_independent": "axis 0 of the input is taken for the batch"},
    ),
}


@pytest.mark.parametrize("factory", SOUND.values(), ids=SOUND)
def test_a_sound_layer_of_another_library_passes(factory):
    report = report_of(factory, house_rules=False)
    assert report.ok, report
    assert report.results["gradcheck"].status == "passed" or not [*factory()[0].parameters()]


@pytest.mark.parametrize(("factory", "faults"), UNSOUND.values(), ids=UNSOUND)
def test_what_fails_fails_for_a_reason_of_its_own(factory, faults):
    report = report_of(factory, house_rules=False)
    assert report.failed == [*faults]
    for check, words in faults.items():
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(report.results[check].message)


@pytest.mark.parametrize("name", ["Linear", "EncoderLayer"])
def test_slow_checks_pass_too(name):
    assert report_of(SOUND[name], house_rules=False, slow=True).ok


def test_with_house_rules_torchs_own_layers_fail_by_them_alone():
    assert report_of(SOUND["Linear"]).failed == ["wrong_last_dim"]
    assert report_of(SOUND["Dropout"]).failed == ["eval_deterministic"]
    assert report_of(SOUND["BatchNorm2d"]).failed == ["batch_independent", "wrong_last_dim"]
