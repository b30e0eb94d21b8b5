"""Writing with a cache: equal to full passes in value and draw, padded batches too; and what is refused."""

import pytest
import torch
from torch import nn

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.attention import (
    AllAttentionBlock,
    DualAttention,
    GroupedQueryAttention,
    HopfieldLookup,
    KVCache,
    SubsampledAttention,
)
from course_lib.layers.norm import ResidualSublayer, TransformerBlock
from course_lib.models.transformers import GPT

VOCABULARY, DIM, LONGEST = 11, 8, 12
MIXERS = {
    "multi-head": lambda: TransformerBlock(DIM, 2, causal=True),
    "grouped": lambda: TransformerBlock(DIM, 4, mixer=GroupedQueryAttention(DIM, 4, 2, causal=True)),
    "peri": lambda: TransformerBlock(DIM, 2, causal=True, norm="peri"),
    "slots": lambda: AllAttentionBlock(DIM, 2, 3, num_positions=LONGEST, causal=True),
    "residual": lambda: ResidualSublayer(GroupedQueryAttention(DIM, 2, 1, causal=True), DIM),
    "subsampled": lambda: TransformerBlock(DIM, 2, mixer=SubsampledAttention(DIM, 2, 2, causal=True)),
}


def gpt(make_block=MIXERS["multi-head"], *, depth=2, spread=1.0):
    """A model whose weights are large enough that its expectations differ from token to token."""
    torch.manual_seed(3)
    model = GPT(VOCABULARY, DIM, [make_block() for _ in range(depth)], max_length=LONGEST).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=spread * 0.5)
    return model


def prompts(rows=3, length=4):
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(5))


def seeded():
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("chunks", [[1] * 9, [4, 1, 3, 1]], ids=str)
def test_logits_with_a_cache_equal_those_of_a_full_pass(name, chunks):
    model, tokens = gpt(MIXERS[name]), prompts(length=9)
    cache = model.new_cache()
    with torch.no_grad():
        steps = [model(part, cache=cache) for part in tokens.split(chunks, dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), model(tokens), rtol=0, atol=1e-10)
    assert [len(each) for each in cache] == [9, 9]


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize(
    "how", [{"greedy": True}, {}, {"temperature": 0.5, "top_k": 4}, {"temperature": 3.0}], ids=str
)
def test_generation_with_a_cache_equals_generation_without(name, how):
    model = gpt(MIXERS[name])
    both = [model.generate(prompts(), 14, use_cache=c, generator=seeded(), **how) for c in (True, False)]
    assert both[0].shape == (3, 18)  # beyond the longest sequence
    assert torch.equal(*both)
    assert both[0].unique().numel() > 2


def test_each_new_token_costs_one_row_of_the_model():
    model, seen = gpt(), []
    model.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    model.generate(prompts(length=4), 5)
    assert seen == [4, 1, 1, 1, 1]


def test_greedy_takes_the_likeliest_token_after_every_prefix():
    model, tokens = gpt(), prompts()
    out = model.generate(tokens, 6, greedy=True)
    assert torch.equal(out[:, :4], tokens)
    for length in range(4, 10):
        assert torch.equal(model(out[:, :length])[:, -1].argmax(-1), out[:, length])


def test_draws_follow_the_softmax_of_the_logits_over_the_temperature():
    model, n = gpt(), 20_000
    prompt = prompts(rows=1)
    for temperature in (0.7, 2.0):
        expected = (model(prompt)[0, -1] / temperature).softmax(-1)
        drawn = model.generate(prompt.expand(n, -1), 1, temperature=temperature, generator=seeded())[:, -1]
        shares = drawn.bincount(minlength=VOCABULARY) / n
        assert (shares - expected).abs().max() < 4 * 0.5 / n**0.5


def test_top_k_draws_among_the_k_largest_in_their_proportions():
    model, n = gpt(), 20_000
    prompt = prompts(rows=1)
    logits = model(prompt)[0, -1]
    drawn = model.generate(prompt.expand(n, -1), 1, top_k=3, generator=seeded())[:, -1]
    largest, places = logits.topk(3)
    assert set(drawn.tolist()) == set(places.tolist())
    shares = (drawn[:, None] == places).double().mean(0)
    assert (shares - largest.softmax(-1)).abs().max() < 4 * 0.5 / n**0.5
    one = model.generate(prompt, 5, top_k=1, generator=seeded())
    assert torch.equal(one, model.generate(prompt, 5, greedy=True))


@pytest.mark.parametrize("temperature", [1e-300, 1e-4])
def test_a_temperature_near_zero_is_greedy_and_not_nan(temperature):
    model = gpt()
    cold = model.generate(prompts(), 5, temperature=temperature, generator=seeded())
    assert torch.equal(cold, model.generate(prompts(), 5, greedy=True))


def test_the_same_generator_gives_the_same_text_and_the_global_one_is_not_touched():
    model, before = gpt(), torch.get_rng_state()
    once, again = (model.generate(prompts(), 9, generator=seeded()) for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(once, model.generate(prompts(), 9, generator=torch.Generator().manual_seed(8)))


def test_a_row_that_has_stopped_is_filled_up_and_the_last_one_ends_generation():
    model = gpt()
    free = model.generate(prompts(rows=6), 10, generator=seeded())
    stop = free[:, 4:8].flatten().mode().values.item()
    out = model.generate(prompts(rows=6), 10, stop_token=stop, generator=seeded())
    ends = [row.tolist().index(stop) if stop in row else 10 for row in free[:, 4:]]
    assert out.shape[1] == 4 + min(10, max(ends) + 1)
    for row, unstopped, end in zip(out[:, 4:], free[:, 4:], ends, strict=True):
        assert torch.equal(row[: end + 1], unstopped[: end + 1][: len(row)])
        assert (row[end:] == stop).all()
    alone = model.generate(
        prompts(rows=6)[:1], 10, greedy=True, stop_token=model(prompts(rows=6)[:1])[0, -1].argmax().item()
    )
    assert alone.shape == (1, 5)


def padded(rows, pad=0):
    longest = max(map(len, rows))
    tokens = torch.stack([torch.cat([row.new_full((longest - len(row),), pad), row]) for row in rows])
    mask = torch.stack([torch.arange(longest) >= longest - len(row) for row in rows])
    return tokens, mask


@pytest.mark.parametrize("name", ["multi-head", "grouped", "slots"])
def test_logits_of_a_padded_batch_are_those_of_its_rows_alone(name):
    model, rows = gpt(MIXERS[name]), [prompts(1, n)[0] for n in (2, 5, 3)]
    for pad in (0, 10):
        tokens, mask = padded(rows, pad)
        logits = model(tokens, mask=mask)
        assert logits.isfinite().all()
        for row, found in zip(rows, logits, strict=True):
            torch.testing.assert_close(found[-len(row) :], model(row[None])[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_of_a_padded_batch_equals_that_of_its_rows_alone(use_cache):
    model, rows = gpt(), [prompts(1, n)[0] for n in (2, 5, 3)]
    tokens, mask = padded(rows)
    out = model.generate(tokens, 7, greedy=True, mask=mask, use_cache=use_cache)
    for row, found in zip(rows, out, strict=True):
        alone = model.generate(row[None], 7, greedy=True)[0]
        assert torch.equal(found[5 - len(row) :], alone)


def test_padding_of_a_full_window_is_dropped_with_it():
    model, rows = gpt(), [prompts(1, n)[0] for n in (3, 6)]
    tokens, mask = padded(rows)
    both = [model.generate(tokens, 15, greedy=True, mask=mask, use_cache=c) for c in (True, False)]
    assert torch.equal(*both)


def test_a_mask_without_padding_serves_blocks_that_take_none():
    model = gpt(lambda: TransformerBlock(DIM, 2, mixer=DualAttention(DIM, 1, 1, causal=True)))
    out = model.generate(prompts(), 3, greedy=True, mask=torch.ones(3, 4, dtype=torch.bool))
    assert torch.equal(out, model.generate(prompts(), 3, greedy=True))


def test_blocks_without_a_cache_are_served_by_full_passes():
    model = gpt(lambda: TransformerBlock(DIM, 2, mixer=DualAttention(DIM, 1, 1, causal=True)))
    assert not model.takes("cache")
    assert model.generate(prompts(), 5, greedy=True).shape == (3, 9)
    with pytest.raises(ValueError, match="its TransformerBlock takes no cache"):
        model(prompts(), cache=model.new_cache())
    pointwise = gpt(lambda: TransformerBlock(DIM, 2, mixer=HopfieldLookup(DIM, 2, 3)))
    with pytest.raises(ValueError, match="takes no mask"):
        pointwise(prompts(), mask=torch.ones(3, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="HopfieldLookup takes no mask"):
        pointwise.blocks[0](torch.randn(1, 3, DIM).double(), mask=torch.ones(3, dtype=torch.bool))


def test_beams_continue_the_rows_that_they_come_from():
    model, tokens = gpt(), prompts(rows=2, length=5)
    cache = model.new_cache()
    rows = torch.tensor([1, 1, 0])
    with torch.no_grad():
        model(tokens, cache=cache)
        for each in cache:
            each.reorder(rows)
        more = torch.tensor([[2], [3], [4]])
        found = model(more, cache=cache)
        expected = model(torch.cat([tokens[rows], more], dim=1))[:, -1:]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_step_that_is_refused_leaves_all_caches_as_they_were():
    """The second block refuses what the first has already taken in."""

    class Moody(nn.Module):
        refuses = True

        def forward(self, x, *, cache=None):
            if self.refuses:
                raise ValueError("not now")
            cache.append(x[:, None], x[:, None])
            return x

    model, tokens = gpt(), prompts(length=6)
    model.blocks.append(Moody())
    model.blocks[-1].refuses = False
    cache = model.new_cache()
    with torch.no_grad():
        model(tokens[:, :4], cache=cache)
        model.blocks[-1].refuses = True
        with pytest.raises(ValueError, match="not now"):
            model(tokens[:, 4:], cache=cache)
        assert [len(each) for each in cache] == [4, 4, 4]
        model.blocks[-1].refuses = False
        torch.testing.assert_close(
            model(tokens[:, 4:], cache=cache), gpt()(tokens)[:, 4:], rtol=0, atol=1e-10
        )


def no_padding(rows=3, length=4):
    return torch.ones(rows, length, dtype=torch.bool)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda m: m.generate(prompts(), 3, temperature=0.0), ValueError, "temperature must be"),
        (lambda m: m.generate(prompts(), 3, temperature="hot"), TypeError, "temperature must be"),
        (lambda m: m.generate(prompts(), -1), ValueError, "max_new_tokens must be"),
        (lambda m: m.generate(prompts(), 2.5), TypeError, "max_new_tokens must be"),
        (lambda m: m.generate(prompts(), 3, top_k=0), ValueError, "top_k must be"),
        (lambda m: m.generate(prompts(), 3, top_k=12), ValueError, "exceeds the vocabulary of 11"),
        (lambda m: m.generate(prompts(), 3, stop_token=11), ValueError, "stop_token=11 is none of 11"),
        (lambda m: m.generate(prompts(length=0), 3), ValueError, "at least one token"),
        (lambda m: m.generate(prompts().double(), 3), TypeError, "int64"),
        (lambda m: m.generate(prompts(), 3, mask=no_padding(2)), ValueError, r"mask must be \(3, 4\)"),
        (lambda m: m.generate(prompts(), 3, mask=no_padding().long()), ValueError, r"mask\.bool\(\)"),
        (lambda m: m.generate(prompts(), 3, mask=[[True]]), TypeError, "must be a tensor"),
        (
            lambda m: m.generate(prompts(), 3, mask=no_padding().triu(-1)[:, [3, 0, 1, 2]]),
            ValueError,
            "on the left",
        ),
        (lambda m: m.generate(prompts(), 3, mask=~no_padding()), ValueError, "on the left"),
        (lambda m: m(prompts(), mask=no_padding(3, 5)), ValueError, r"mask must be \(3, 4\)"),
        (lambda m: m(prompts(), cache=m.new_cache()[:1]), ValueError, "one cache for each of its 2 blocks"),
        (lambda m: m(prompts(), cache=uneven(m)), ValueError, r"lengths \[0, 1\]"),
        (lambda m: m(prompts(length=9), cache=filled(m, 4)), ValueError, "exceed max_length=12"),
        (lambda m: m(prompts(), cache=filled(m, 4), mask=no_padding()), ValueError, r"\(3, 8\)"),
    ],
)
def test_what_does_not_fit_is_refused(run, error, message):
    with as_installed(), torch.no_grad(), pytest.raises(error, match=message):
        run(gpt())


def filled(model, length):
    cache = model.new_cache()
    model(prompts(length=length), cache=cache)
    return cache


def uneven(model):
    cache = model.new_cache()
    cache[0].append(*torch.zeros(2, 3, 2, 1, 4).double())
    return cache


def test_no_new_tokens_give_the_prompt():
    assert torch.equal(gpt().generate(prompts(), 0), prompts())


def test_half_precision_generates():
    model = gpt().to(torch.bfloat16)
    assert model.generate(prompts(), 4, generator=seeded()).shape == (3, 8)


def test_a_cache_is_cropped_to_try_another_continuation():
    model, tokens = gpt(), prompts(length=7)
    other = tokens.clone()
    other[:, 5:] = (other[:, 5:] + 1) % VOCABULARY
    cache: list[KVCache] = model.new_cache()
    with torch.no_grad():
        model(tokens, cache=cache)
        for each in cache:
            each.crop(5)
        torch.testing.assert_close(model(other[:, 5:], cache=cache), model(other)[:, 5:], rtol=0, atol=1e-10)
