"""Pooling of sequences that differ in length: the mean, and one query."""

import torch

from course_lib.classroom.answers import case, normal
from course_lib.exercises.layers.pool._chapter import exercises


def _sequences():
    yield case("one token", normal(1, 1, 2), torch.tensor([1]))
    yield case("one of two tokens counts", normal(1, 2, 2), torch.tensor([1]))
    yield case("full length", normal(1, 3, 2), torch.tensor([3]))
    yield case("lengths that differ", normal(3, 4, 2), torch.tensor([4, 1, 3]))
    x = normal(2, 3, 2)
    x[1, 0] = 0.0
    yield case("a token of zeros counts, too", x, torch.tensor([2, 3]))
    x = normal(2, 3, 2)
    x[0, 1:] = 1e4
    yield case("rubbish behind the end", x, torch.tensor([1, 3]))


@exercises.add(
    cases=_sequences,
    hints=(
        "torch.arange(t) < lengths[:, None] is True where a token counts: (b, t).",
        "Set the others to zero, add up, divide by the length of each sequence.",
    ),
)
def my_masked_mean(x, lengths):
    return torch.stack([row[: int(n)].mean(0) for row, n in zip(x, lengths, strict=True)])


@my_masked_mean.mistakes(
    no_mask="Tokens behind the end count in your answer.",
    divided_by_all="You divide by the number of all places; each sequence has a length of its own.",
    one_more="A sequence of length n has the tokens 0, ..., n - 1.",
    not_divided="This is the sum; divide by the length.",
    over_width="The mean runs over the tokens, not over the features.",
    last_token="This is the last token that counts.",
    one_less="A sequence of length n has n tokens, the first of them 0: divide by n.",
    not_masked="You divide by the length, but all places are added up: leave out those behind the end.",
    first_length="Every sequence has a length of its own; yours all have that of the first.",
    longest="Every sequence has a length of its own; yours all have the longest one.",
    counts_nonzero="You count numbers that are not zero; a token that counts may hold a zero.",
)
def _(x, lengths, *, wrong):
    t = x.shape[1]
    counts = torch.arange(t) <= lengths[:, None] if wrong.one_more else torch.arange(t) < lengths[:, None]
    if wrong.no_mask:
        counts = torch.ones_like(counts)
    if wrong.last_token:
        return x[torch.arange(len(x)), lengths - 1]
    if wrong.first_length or wrong.longest:
        return x[:, : int(lengths.max() if wrong.longest else lengths[0])].mean(1)
    if wrong.not_masked:
        return x.sum(1) / lengths[:, None]
    masked = x * counts[..., None]
    if wrong.counts_nonzero:
        return masked.sum(1) / (masked != 0).sum(1)
    if wrong.one_less:
        return masked.sum(1) / (lengths - 1).clamp(min=1)[:, None]
    if wrong.over_width:
        return masked.mean(2)
    total = masked.sum(1)
    divisor = counts.sum(1, keepdim=True)
    return total if wrong.not_divided else total / (t if wrong.divided_by_all else divisor)


def _queries():
    for given in _sequences():
        x, lengths = given.args
        yield case(given.label, normal(x.shape[-1], seed=5), x, lengths)
    yield case("a wider one", normal(9, seed=5), normal(2, 5, 9), torch.tensor([5, 2]))


@exercises.add(
    cases=_queries,
    hints=(
        "The scores are x @ q / d ** 0.5, one number a token; hide those behind the end before the softmax.",
        "masked_fill(~counts, -torch.inf), then a softmax over the tokens, then the weighted sum of x.",
    ),
)
def my_masked_pool(q, x, lengths):
    pooled = []
    for row, n in zip(x, lengths, strict=True):
        row = row[: int(n)]
        pooled.append((row @ q / q.shape[-1] ** 0.5).softmax(0) @ row)
    return torch.stack(pooled)


@my_masked_pool.mistakes(
    unscaled="The scores are divided by the root of d.",
    divided_by_d="The scores are divided by the root of d, not by d.",
    no_mask="Tokens behind the end take part in your answer.",
    mask_after="The mask comes before the softmax: tokens or weights that are set to zero afterwards keep their share.",
    zero_scores="A score of 0 hides nothing: exp(0) = 1.",
    cleared_alone="A token that you clear has a score of 0 and keeps a weight: exp(0) = 1. Hide its score.",
    over_batch="The softmax runs over the sequences; each sequence's weights must add up to one.",
    one_more="A sequence of length n has the tokens 0, ..., n - 1.",
    mean="q is not used: that is the mean.",
    divided_by_length="The weights add up to one already: no division by the length.",
    root_of_tokens="The scores are divided by the root of d, the width of a token, not of their number.",
    weights="These are the weights; they are to mix the tokens.",
    over_batch_empty="The softmax runs over the sequences; each sequence's weights must add up to one.",
    hard="The softmax weighs all tokens; yours takes the best one alone.",
)
def _(q, x, lengths, *, wrong):
    t, d = x.shape[1:]
    counts = torch.arange(t) <= lengths[:, None] if wrong.one_more else torch.arange(t) < lengths[:, None]
    if wrong.no_mask:
        counts = torch.ones_like(counts)
    if wrong.cleared_alone:
        x, counts = x.masked_fill(~counts[..., None], 0.0), torch.ones_like(counts)
    if wrong.root_of_tokens:
        d = t
    scores = x @ q / (1 if wrong.unscaled else d if wrong.divided_by_d else d**0.5)
    if wrong.mean:
        scores = 0 * scores
    if wrong.mask_after:
        weights = scores.softmax(-1) * counts
    else:
        masked = scores.masked_fill(
            ~counts, 0.0 if wrong.zero_scores else -1e30 if wrong.over_batch else -torch.inf
        )
        weights = masked.softmax(0 if wrong.over_batch or wrong.over_batch_empty else -1)
    if wrong.weights:
        return weights
    if wrong.divided_by_length:
        weights = weights / lengths[:, None]
    if wrong.hard:
        weights = torch.nn.functional.one_hot(weights.argmax(-1), t).to(x)
    return torch.einsum("bt,btd->bd", weights, x)


# ----------------------------------------------------------------------------------------- a needle


def _needles():
    def given(label, b, t, d, where, kinds):
        return case(label, normal(b, t, d), torch.tensor(where), torch.tensor(kinds))

    yield given("one token", 1, 1, 5, [0], [1])
    yield given("the second of two tokens", 1, 2, 6, [1], [3])
    yield given("three sequences", 3, 4, 7, [0, 3, 2], [2, 0, 3])


@exercises.add(
    cases=_needles,
    hints=(
        "x[torch.arange(b), where] is the needle of each sequence: (b, d). Work on a copy of the noise.",
        "Feature 0 is 3; features 1 to 4 are 3 times F.one_hot(label, 4).",
    ),
)
def my_needles(noise, where, label):
    hot = torch.nn.functional.one_hot(where, noise.shape[1])[..., None].bool()
    needle = torch.zeros(len(noise), 5, dtype=noise.dtype)
    needle[:, 0] = 3
    needle[torch.arange(len(noise)), label + 1] = 3
    replaced = torch.cat([needle[:, None].expand(-1, noise.shape[1], -1), noise[..., 5:]], -1)
    return torch.where(hot, replaced, noise)


@my_needles.mistakes(
    no_mark="The mark is missing: feature 0 of the needle is 3.",
    small_class="The class is 3 times one-hot.",
    added="The features are set, not added to the noise.",
    everywhere="Only the token at `where` is changed, not all of them.",
    first_token="The needle stands at `where`, not in front.",
    shifted="The class stands in the features 1 to 4: class 0 in feature 1.",
    rest_cleared="The features from 5 on stay noise.",
    noise_among_classes="Of the features 1 to 4 only one is set in yours; a one-hot vector has zeros as well.",
    class_as_number="The class is a one-hot vector in the features 1 to 4, not a number.",
    marked_everywhere="Each sequence has its mark at its own place: index with torch.arange(b) as well.",
    small_mark="The mark is 3.",
    only_needle="All other tokens stay noise.",
)
def _(noise, where, label, *, wrong):
    b, t, d = noise.shape
    needle = torch.zeros(b, d, dtype=noise.dtype)
    needle[:, 0] = 0 if wrong.no_mark else 1 if wrong.small_mark else 3
    if wrong.only_needle:
        noise = 0 * noise
    place = (label if wrong.shifted else label + 1).clamp(max=d - 1)
    needle[torch.arange(b), place] = 1 if wrong.small_class else 3
    where = torch.zeros_like(where) if wrong.first_token else where
    at = torch.nn.functional.one_hot(where, t)[..., None].bool()
    if wrong.everywhere:
        at = torch.ones_like(at)
    keep = torch.zeros(d) if wrong.rest_cleared else (torch.arange(d) > 4).double()
    new = needle[:, None] + noise * (1 if wrong.added else keep)
    if wrong.class_as_number:
        new = torch.cat(
            [torch.full((b, t, 1), 3.0), label[:, None, None].expand(b, t, 1), noise[..., 2:]], -1
        )
    if wrong.noise_among_classes:
        new = torch.where((torch.arange(d) > 4) | (needle == 0)[:, None], noise, new)
    changed = torch.where(at, new, noise)
    if wrong.marked_everywhere:
        changed[:, where, 0] = 3
    return changed
