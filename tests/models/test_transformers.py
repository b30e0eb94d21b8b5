"""The small transformers: shapes, causality, the start of training, against loops and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.norm import TransformerBlock
from course_lib.models.transformers import GPT, VisionTransformer


def small_gpt(**factory):
    blocks = [TransformerBlock(8, 2, causal=True, **factory) for _ in range(2)]
    return GPT(11, 8, blocks, max_length=6, **factory)


def vision(**changes):
    sizes = {"in_channels": 3, "num_classes": 10, "image_size": (4, 6), "patch": 2, "dim": 5}
    return VisionTransformer(**{**sizes, "blocks": [nn.Identity()], **changes})


def test_logits_at_time_t_do_not_depend_on_later_tokens():
    model, tokens = small_gpt(), torch.randint(11, (2, 6))
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 11
    torch.testing.assert_close(model(tokens)[:, :4], model(changed)[:, :4])
    assert not torch.allclose(model(tokens)[:, 4:], model(changed)[:, 4:])


def test_initial_loss_is_that_of_a_uniform_guess():
    model, tokens = small_gpt(), torch.randint(11, (8, 6))
    loss = F.cross_entropy(model(tokens).flatten(0, 1), torch.randint(11, (48,)))
    assert loss.item() == pytest.approx(math.log(11), abs=0.05)


def test_start_scales_the_matrices_that_write_into_the_stream_by_the_root_of_twice_the_depth():
    block = GPT(11, 64, [TransformerBlock(64, 2, causal=True) for _ in range(8)], max_length=6).blocks[0]
    assert block.mlp.mixer[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.mlp.mixer[2].weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)
    assert block.attention.mixer.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)


def test_too_long_a_sequence_is_refused():
    with pytest.raises(ValueError, match="exceed max_length=6"):
        small_gpt()(torch.zeros(1, 7, dtype=torch.long))


@pytest.mark.parametrize("token", [-1, 11])
def test_a_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(ValueError, match=rf"tokens from 0 to 10, got tokens from .*{token}"):
        small_gpt()(torch.tensor([[3, token]]))


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (
            lambda: small_gpt()(torch.zeros(1, 3)),
            TypeError,
            r"GPT\(.*expects tokens of int64, got torch.float32",
        ),
        (lambda: small_gpt()([[1, 2]]), TypeError, "got list"),
        (lambda: small_gpt()(torch.zeros(3, dtype=torch.long)), ValueError, r"tokens \(b, t\)"),
        (lambda: small_gpt()(torch.zeros(1, 3, dtype=torch.long, device="meta")), ValueError, "meta"),
        (lambda: GPT(0, 8, [], max_length=6), ValueError, "GPT: vocab_size must be"),
        (lambda: GPT(11, 8.0, [], max_length=6), TypeError, "GPT: dim must be"),
        (lambda: GPT(11, 8, [], max_length=-1), ValueError, "GPT: max_length must be"),
        (lambda: GPT(11, 8, 3, max_length=6), TypeError, "GPT: blocks must be"),
        (lambda: GPT(11, 8, [nn.GELU], max_length=6), TypeError, r"GPT: blocks\[0\] must be"),
        (lambda: GPT(11, 8, [], max_length=6, final_norm="layer"), TypeError, "GPT: final_norm must be"),
        (lambda: vision(in_channels=0), ValueError, "VisionTransformer: in_channels must be"),
        (lambda: vision(num_classes=1.5), TypeError, "VisionTransformer: num_classes must be"),
        (lambda: vision(image_size=(4, 6, 3)), ValueError, "VisionTransformer: image_size must be"),
        (lambda: vision(patch=0), ValueError, "VisionTransformer: patch must be"),
        (lambda: vision(image_size=(5, 6)), ValueError, "patch=2 does not divide image_size"),
        (lambda: vision(blocks=nn.GELU()), TypeError, "VisionTransformer: blocks must be"),
        (
            lambda: vision()(torch.randn(2, 1, 4, 6)),
            ValueError,
            r"VisionTransformer\(.*images \(b, 3, 4, 6\)",
        ),
        (lambda: vision()(torch.randn(2, 3, 6, 4)), ValueError, r"images \(b, 3, 4, 6\)"),
        (lambda: vision()(torch.zeros(2, 3, 4, 6, dtype=torch.long)), TypeError, "images of torch.float32"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(run, error, message):
    with as_installed(), pytest.raises(error, match=message):
        run()


@pytest.mark.parametrize("build", [small_gpt, vision], ids=["GPT", "VisionTransformer"])
def test_on_meta_then_filled_it_starts_as_a_fresh_one(build):
    torch.manual_seed(0)
    fresh = build()
    filled = build(device="meta")
    filled.to_empty(device="cpu")
    for tensor in filled.state_dict().values():
        tensor.fill_(math.nan)
    filled.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
    for name, tensor in fresh.state_dict().items():
        other = filled.state_dict()[name]
        assert other.isfinite().all(), name
        if tensor.numel() > 60:
            assert other.std() == pytest.approx(tensor.std(), rel=0.5), name
    loaded = build(device="meta")
    loaded.load_state_dict(fresh.state_dict(), assign=True)
    assert not any(p.is_meta for p in [*loaded.parameters(), *loaded.buffers()])


@pytest.mark.parametrize("build", [small_gpt, vision], ids=["GPT", "VisionTransformer"])
def test_dtype_reaches_all_parameters(build):
    assert {p.dtype for p in build(dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_patch_tokens_equal_a_strided_convolution():
    model = vision()
    images = torch.randn(2, 3, 4, 6)
    weight = model.embed_patch.weight.reshape(5, 3, 2, 2)
    expected = F.conv2d(images, weight, model.embed_patch.bias, stride=2).flatten(2).mT + model.position
    torch.testing.assert_close(model.embed(images), expected)


def test_without_blocks_that_mix_and_without_positions_the_classifier_is_blind_to_the_order_of_patches():
    model = VisionTransformer(1, 3, image_size=(4, 4), patch=2, dim=5, blocks=[TransformerBlock(5, 1)])
    images = torch.randn(2, 1, 4, 4)
    nn.init.zeros_(model.position)
    torch.testing.assert_close(model(images), model(images.roll(2, dims=2)))  # top and bottom patches swapped
