"""The small transformers: shapes, causality, the start of training, against loops and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers.norm import TransformerBlock
from course_lib.models.transformers import GPT, VisionTransformer


def small_gpt(depth=2):
    return GPT(11, 8, [TransformerBlock(8, 2, causal=True) for _ in range(depth)], max_length=6)


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
    assert block.mlp.sublayer[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.mlp.sublayer[2].weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)
    assert block.attention.sublayer.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)


def test_generation_extends_the_prompt_and_repeats_with_the_same_generator():
    model, prompt = small_gpt(), torch.randint(11, (1, 3))
    once, again = (model.generate(prompt, 9, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert once.shape == (1, 12)
    assert torch.equal(once, again)
    assert torch.equal(once[:, :3], prompt)


def test_too_long_a_sequence_is_refused():
    with pytest.raises(ValueError, match="exceed max_length=6"):
        small_gpt()(torch.zeros(1, 7, dtype=torch.long))


def test_patch_tokens_equal_a_strided_convolution():
    model = VisionTransformer((4, 6, 3), 2, 5, 10, [nn.Identity()])
    images = torch.randn(2, 3, 4, 6)
    weight = model.embed_patch.weight.reshape(5, 3, 2, 2)
    expected = F.conv2d(images, weight, model.embed_patch.bias, stride=2).flatten(2).mT + model.position
    torch.testing.assert_close(model.embed(images), expected)
    with pytest.raises(ValueError, match="built for images"):
        model(torch.randn(2, 1, 4, 6))
    with pytest.raises(ValueError, match="divide"):
        VisionTransformer((5, 6, 3), 2, 5, 10, [])


def test_without_blocks_that_mix_and_without_positions_the_classifier_is_blind_to_the_order_of_patches():
    model, images = VisionTransformer((4, 4, 1), 2, 5, 3, [TransformerBlock(5, 1)]), torch.randn(2, 1, 4, 4)
    nn.init.zeros_(model.position)
    torch.testing.assert_close(model(images), model(images.roll(2, dims=2)))  # top and bottom patches swapped
