"""Layers that run token by token, and the state that they keep."""

import pytest
import torch

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers._streaming import StateCache, Streaming
from course_lib.layers.norm import TransformerBlock
from course_lib.models.transformers import GPT


class Decays(Streaming):
    """A pair of states, so that a state is more than one tensor."""

    def __init__(self, dim):
        super().__init__()
        self.inner = torch.nn.Linear(dim, dim)

    def step(self, x, state=None):
        slow, fast = state or (torch.zeros_like(x), torch.zeros_like(x))
        slow, fast = 0.9 * slow + self.inner(x), 0.5 * fast + x
        return slow + fast, (slow, fast)


def test_a_cached_forward_continues_where_the_last_one_ended():
    layer, x = Decays(4).double(), torch.randn(2, 7, 4, dtype=torch.float64)
    cache = layer.new_cache()
    with torch.no_grad():
        parts = [layer(part, cache=cache) for part in x.split([3, 1, 3], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), layer(x))
    assert (len(cache), cache.nbytes) == (7, 2 * 2 * 4 * 8)


def test_a_cache_can_be_reordered_moved_and_reset():
    cache = StateCache()
    cache.append(2, (torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])))
    cache.reorder(torch.tensor([1, 1, 0]))
    assert [leaf.flatten().tolist() for leaf in cache.state] == [[2, 2, 1], [4, 4, 3]]
    assert cache.to(torch.float64).state[0].dtype == torch.float64
    cache.crop(2)
    assert repr(cache) == "StateCache(2 tokens, 48 bytes)"
    cache.crop(0)
    assert (len(cache), cache.state, cache.nbytes) == (0, None, 0)


def test_a_cache_says_what_it_cannot_do():
    cache = StateCache()
    with pytest.raises(ValueError, match="empty"):
        cache.reorder(torch.tensor([0]))
    with pytest.raises(ValueError, match="no gradients"):
        cache.append(1, torch.ones(1, 1, requires_grad=True))
    cache.append(3, torch.ones(2, 1))
    with pytest.raises(ValueError, match="behind 3 tokens cannot be taken back to 2"):
        cache.crop(2)
    with pytest.raises(ValueError, match=r"from 0 to 1, got \[2\]"):
        cache.reorder(torch.tensor([2]))
    with as_installed(), pytest.raises(TypeError, match=r"int64, got torch\.float32"):
        cache.reorder(torch.ones(1))
    assert len(cache) == 3


def test_a_layer_without_step_says_so():
    with pytest.raises(NotImplementedError, match="Streaming needs a method step"):
        Streaming()(torch.ones(1, 2, 3))


def test_a_language_model_writes_the_same_with_states_as_with_all_tokens_again():
    torch.manual_seed(0)
    blocks = [TransformerBlock(8, 2, mixer=Decays(8)), TransformerBlock(8, 2, causal=True)]
    model = GPT(11, 8, blocks, max_length=12).double().eval()
    prompt = torch.randint(11, (3, 4))
    cached = model.generate(prompt, 6, greedy=True)
    assert torch.equal(cached, model.generate(prompt, 6, greedy=True, use_cache=False))
    cache = model.new_cache()
    with torch.no_grad():
        logits = torch.cat([model(part, cache=cache) for part in cached.split([4, 1, 5], 1)], 1)
    torch.testing.assert_close(logits, model(cached))


def test_a_prompt_of_one_axis_gets_a_clear_error():
    with as_installed(), pytest.raises(ValueError, match=r"expects tokens \(b, t\), got shape \(3,\)"):
        GPT(5, 4, [], max_length=8).generate(torch.tensor([1, 2, 3]), 2)
