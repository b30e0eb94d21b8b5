"""Weights of torch's and timm's layers give the same outputs in ours."""

import importlib

import pytest
import torch
from torch import nn

from course_lib.layers.attention import GroupedQueryAttention, MultiHeadAttention
from course_lib.layers.norm import LayerNorm, TransformerBlock
from course_lib.models.transformers import foreign_state
from course_lib.models.transformers.foreign import _require_state
from tests.layers.attention_oracles import randomise
from tests.peers import timm_layers


def timm_vision():
    timm_layers()  # makes timm loadable
    return importlib.import_module("timm.models.vision_transformer")


def filled(ours, theirs):
    ours.load_state_dict(foreign_state(ours, theirs.state_dict()))
    return ours.double().eval()


@pytest.mark.parametrize("bias", [True, False])
def test_torchs_attention(bias):
    theirs = randomise(nn.MultiheadAttention(12, 3, batch_first=True, bias=bias))
    ours, x = filled(MultiHeadAttention(12, 3, bias=bias), theirs), torch.randn(2, 5, 12).double()
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], rtol=0, atol=1e-12)


def test_timms_attention():
    theirs = randomise(timm_vision().Attention(12, num_heads=3, qkv_bias=True))
    ours, x = filled(MultiHeadAttention(12, 3), theirs), torch.randn(2, 5, 12).double()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_torchs_encoder_layer(norm):
    theirs = randomise(
        nn.TransformerEncoderLayer(12, 3, 20, activation="gelu", batch_first=True, norm_first=norm == "pre")
    )
    ours = filled(TransformerBlock(12, 3, hidden_dim=20, norm=norm), theirs)
    x = torch.randn(2, 5, 12).double()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


def test_timms_block():
    theirs = randomise(timm_vision().Block(12, 3, mlp_ratio=2.0, qkv_bias=True))
    eps = theirs.norm1.eps
    ours = TransformerBlock(12, 3, hidden_dim=24, norm_layer=lambda dim: LayerNorm(dim, eps))
    x = torch.randn(2, 5, 12).double()
    torch.testing.assert_close(filled(ours, theirs)(x), theirs(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: foreign_state(
                MultiHeadAttention(8, 2), nn.MultiheadAttention(8, 2, add_bias_kv=True).state_dict()
            ),
            ValueError,
            "no place for 'bias_k'",
        ),
        (
            lambda: foreign_state(MultiHeadAttention(8, 2), nn.MultiheadAttention(8, 2, kdim=6).state_dict()),
            ValueError,
            "no place for 'q_proj_weight'",
        ),
        (
            lambda: foreign_state(
                MultiHeadAttention(8, 2), nn.MultiheadAttention(8, 2, bias=False).state_dict()
            ),
            ValueError,
            r"nothing for \['out.bias', 'query.bias', 'value.bias'\]",
        ),
        (
            lambda: foreign_state(
                MultiHeadAttention(8, 2, bias=False), nn.MultiheadAttention(8, 2).state_dict()
            ),
            ValueError,
            r"no place for \['out.bias', 'query.bias', 'value.bias'\]",
        ),
        (
            lambda: foreign_state(
                TransformerBlock(8, 2, norm="peri"), nn.TransformerEncoderLayer(8, 2, 32).state_dict()
            ),
            ValueError,
            "not 'peri'",
        ),
        (lambda: foreign_state(nn.Linear(2, 2), {}), TypeError, "got Linear"),
    ],
)
def test_what_has_no_place_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_layer_in_the_place_of_its_state_is_named():
    # The tests check types before the function does, its readers do not.
    with pytest.raises(TypeError, match=r"then the state of theirs, got Linear .*: write \.state_dict\(\)"):
        _require_state(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"then the state of theirs, got list$"):
        _require_state([])


def test_shared_heads_are_no_place_for_a_full_matrix():
    ours = GroupedQueryAttention(8, 4, 2)
    state = foreign_state(ours, nn.MultiheadAttention(8, 4).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        ours.load_state_dict(state)
