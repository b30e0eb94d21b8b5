"""Scores, weights and the layer; what a cache costs; shared keys."""

import torch
from torch import einsum
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal
from course_lib.exercises.layers.attention._chapter import exercises
from course_lib.layers import attention


@exercises.add(
    cases=[
        case("one token, every head with keys of its own", 1, 2, 2, 4, 1, 4),
        case("one head for all (multi-query)", 3, 4, 1, 8, 1, 4),
        case("groups of heads", 3, 8, 2, 16, 1, 4),
        case("many layers", 5, 2, 2, 4, 3, 4),
        case("half precision", 5, 2, 1, 6, 2, 2),
        case("a real decoder", 4096, 32, 8, 4096, 32, 2),
    ],
    hints=(
        "Of each past token, each layer keeps one key and one value a key-value head.",
        "A head is dim / num_heads numbers wide, whether or not it shares its keys.",
    ),
)
def my_cache_bytes(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    kept = {"num_layers": num_layers, "dtype": {2: torch.float16, 4: torch.float32}[bytes_per_number]}
    return attention.kv_cache_bytes(length, num_kv_heads, dim // num_heads, **kept)


@my_cache_bytes.mistakes(
    keys_only="You counted the keys. What else does attention need of a past token?",
    queries_too="Queries of past tokens are never used again: only keys and values are kept.",
    query_heads="Every query head has keys of its own in your count: count G heads, each d / H numbers wide.",
    narrower_heads="Sharing removes heads, it does not make the others narrower: a head is dim / num_heads wide.",
    one_layer="Every layer has keys and values of its own.",
    numbers="You counted numbers. How many bytes does each of them take?",
    squared="The matrix of scores (length times length) is not kept: only keys and values are.",
    queries_beside="Queries of past tokens are never used again: only keys and values are kept.",
)
def _(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number, *, wrong):
    width = dim // num_heads
    if wrong.narrower_heads:
        width = width * num_kv_heads // num_heads
    heads = num_heads if wrong.query_heads else num_kv_heads
    if wrong.queries_beside:
        return length * (2 * num_kv_heads + num_heads) * width * num_layers * bytes_per_number
    kinds = 2 - wrong.keys_only + wrong.queries_too
    per_token = (
        kinds
        * heads
        * width
        * (1 if wrong.one_layer else num_layers)
        * (1 if wrong.numbers else bytes_per_number)
    )
    return length * per_token * (length if wrong.squared else 1)


def _queries_and_keys():
    yield case("one query, two keys of width 2", normal(1, 1, 1, 2), normal(1, 1, 2, 2))
    yield case("as many keys as queries, width 4", normal(1, 1, 3, 4), normal(1, 1, 3, 4, seed=1))
    yield case("two heads, two sequences", normal(2, 2, 3, 5), normal(2, 2, 4, 5))


@exercises.add(
    cases=_queries_and_keys,
    hints=(
        "One number for each sequence b, head h, query t and key s: which letter of q and k is summed over?",
        "The inner product of two random vectors of width e has the size of the root of e: divide by it.",
    ),
)
def my_scores(q, k):
    return einsum("bhte,bhse->bhts", q, k) / q.shape[-1] ** 0.5


@my_scores.mistakes(
    unscaled="Inner products grow with the width of a head. The statement says by what they are divided.",
    by_width="You divide by e. Divide by its root: the inner product has that size.",
    multiplied="You multiply by the root of e where you should divide.",
    queries_for_width="You divide by the root of another size than e, the last axis of q.",
    keys_first="Your axes are (b, h, s, t): queries come first, then keys.",
    weights="These are weights, which add up to one: the softmax belongs to the next step.",
    all_heads="You divide by the root of h e, the width of all heads together; a head is e wide.",
)
def _(q, k, *, wrong):
    size = q.shape[-2] if wrong.queries_for_width else q.shape[-1]
    size = size * q.shape[1] if wrong.all_heads else size
    power = 0 if wrong.unscaled else -1 if wrong.by_width else 0.5 if wrong.multiplied else -0.5
    scores = q @ k.mT * size**power
    if wrong.weights:
        return scores.softmax(-1)
    return scores.mT if wrong.keys_first else scores


def _score_matrices():
    yield case("two tokens", normal(1, 1, 2, 2))
    yield case("three tokens", normal(1, 1, 3, 3))
    yield case("two heads, two sequences, one token", normal(2, 2, 1, 1))
    yield case("two heads, two sequences", normal(2, 2, 4, 4))
    yield case("large scores", 800 + 5 * normal(1, 2, 3, 3))


@exercises.add(
    cases=_score_matrices,
    hints=(
        "The softmax has to see the future as minus infinity; then each row still adds up to one.",
        "torch.ones(t, t, dtype=torch.bool).triu(1) is True where s > t; masked_fill writes a number there.",
    ),
)
def my_causal_weights(scores):
    t = scores.shape[-1]
    bias = torch.zeros(t, t).masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -torch.inf)
    return (scores + bias).softmax(-1)


@my_causal_weights.mistakes(
    no_mask="Tokens see the future: weight [t, s] must be zero for s > t.",
    own_token_hidden="A token sees itself, too: mask s > t, not s >= t. (The first token then sees nothing at all.)",
    past_hidden="You hide the past and show the future: weight [t, s] must be zero for s > t, above the diagonal.",
    mask_after="The mask comes before the softmax: weights that are set to zero afterwards leave rows that add up to less than one.",
    zero_scores="A score of 0 is no mask: exp(0) = 1. What score does the exponential turn into 0?",
    over_queries="Your softmax runs down the columns (the queries). Each query's weights, a row, must add up to one.",
    over_all="Your softmax runs over the whole matrix; each row must add up to one.",
    no_softmax="These are masked scores, not weights: a softmax makes each row positive and adds it up to one.",
    first_row_empty="A token sees itself, too: mask s > t, not s >= t. The first token sees nothing at all in yours: nan.",
    no_softmax_infinite="These are masked scores, not weights: a softmax makes each row positive and adds it up to one.",
    mask_multiplied="Zero times minus infinity is nan: write minus infinity where the mask is true (masked_fill), do not multiply.",
    mask_too_weak="The future still has a little weight: write minus infinity there, not some negative number.",
)
def _(scores, *, wrong):
    t = scores.shape[-1]
    own_hidden = wrong.own_token_hidden or wrong.first_row_empty
    hidden = torch.ones(t, t, dtype=torch.bool).triu(0 if own_hidden else 1)
    if wrong.mask_multiplied:
        return (scores + torch.ones(t, t).triu(1) * -torch.inf).softmax(-1)
    if wrong.past_hidden:
        hidden = hidden.T
    if wrong.no_mask:
        hidden = torch.zeros_like(hidden)
    fill = 0.0 if wrong.zero_scores else -1e9 if wrong.own_token_hidden else -torch.inf
    if wrong.mask_too_weak:
        fill = -10.0
    masked = scores if wrong.mask_after else scores.masked_fill(hidden, fill)
    if wrong.no_softmax_infinite:
        return masked
    if wrong.no_softmax:
        return masked.clamp(min=-1e30)
    weights = (
        masked.flatten(-2).softmax(-1).view_as(masked)
        if wrong.over_all
        else masked.softmax(-2 if wrong.over_queries else -1)
    )
    return weights.masked_fill(hidden, 0.0) if wrong.mask_after else weights


def _tokens_and_weights():
    def given(b, t, d, h, e):
        return (normal(b, t, d), *(normal(h, d, e, seed=i) for i in (1, 2, 3)), normal(h, e, d))

    yield case("one token, one head", *given(1, 1, 2, 1, 2))
    yield case("two tokens, one head", *given(1, 2, 2, 1, 2))
    yield case("heads that are not width d / h", *given(1, 3, 4, 3, 2))
    yield case("two sequences, two heads", *given(2, 5, 6, 2, 3))


@exercises.add(
    cases=_tokens_and_weights,
    hints=(
        'Queries are einsum("btd,hde->bhte", x, wq); keys and values likewise.',
        "Your two functions turn them into weights (b, h, t, s); what remains is two einsums, one with v, one with wo.",
    ),
)
def my_attention(x, wq, wk, wv, wo):
    q, k, v = (einsum("btd,hde->bhte", x, w) for w in (wq, wk, wv))
    return einsum("bhte,hed->btd", F.scaled_dot_product_attention(q, k, v, is_causal=True), wo)


@my_attention.mistakes(
    no_scale="Inner products grow with the width of a head; your scores are not divided by anything.",
    width_of_the_stream="You divide by the root of d, the width of the stream. Each head is only e wide.",
    by_width="You divide by e; divide by its root.",
    over_queries="Your softmax runs over the queries. Each query's weights over the keys must add up to one.",
    over_heads="Your softmax runs over the heads. Each query's weights over the keys must add up to one.",
    mask_too_late="You mask after the softmax: the rows no longer add up to one. Mask the scores.",
    no_mask="Tokens see the future: token t may see the tokens 0, ..., t.",
    past_hidden="You hide the past and show the future.",
    own_token_hidden="Your tokens do not see themselves: token t sees 0, ..., t.",
    keys_for_values="What is mixed are the keys in your answer; it should be the values.",
    values_for_keys="Scores compare queries with keys; yours compare them with the values.",
    one_head="Every head gives the same in your answer: give each its own slice of the weights.",
    mean_of_heads="The heads' messages are added up, not averaged.",
    turned="Your weights are used as (t, s) turned round: the sum runs over the keys s.",
    adds_input="The input is not added: the residual stream is the business of the block around the layer.",
    joined_wrongly="Heads stand in front of the tokens (b, h, t, e): to lay them side by side, exchange these axes before you reshape.",
)
def _(x, wq, wk, wv, wo, *, wrong):
    if wrong.one_head:
        wq, wk, wv = (w[:1].expand_as(w) for w in (wq, wk, wv))
    q, k, v = (einsum("btd,hde->bhte", x, w) for w in (wq, wk, wv))
    size = (
        1
        if wrong.no_scale
        else x.shape[-1]
        if wrong.width_of_the_stream
        else q.shape[-1] ** (2 if wrong.by_width else 1)
    )
    scores = einsum("bhte,bhse->bhts", q, v if wrong.values_for_keys else k) / size**0.5
    t = x.shape[1]
    future = torch.ones(t, t, dtype=torch.bool).triu(0 if wrong.own_token_hidden else 1)
    if wrong.past_hidden:
        future = future.T
    if wrong.no_mask:
        future = torch.zeros_like(future)
    fill = -1e9 if wrong.own_token_hidden or wrong.over_heads else -torch.inf
    masked = scores if wrong.mask_too_late else scores.masked_fill(future, fill)
    weights = masked.softmax(2 if wrong.over_queries else 1 if wrong.over_heads else 3)
    if wrong.mask_too_late:
        weights = weights.masked_fill(future, 0.0)
    heads = (weights.mT if wrong.turned else weights) @ (k if wrong.keys_for_values else v)
    if wrong.joined_wrongly:
        return heads.reshape(len(x), t, -1) @ wo.flatten(0, 1)
    sent = einsum("bhte,hed->btd", heads, wo) / (len(wo) if wrong.mean_of_heads else 1)
    return sent + x if wrong.adds_input else sent


def _queries_and_groups():
    def given(b, h, g, t, s, e):
        return normal(b, h, t, e), normal(b, g, s, e), normal(b, g, s, e, seed=1)

    yield case("two heads, one group (multi-query)", *given(1, 2, 1, 1, 2, 2))
    yield case("two heads, two groups (multi-head)", *given(1, 2, 2, 1, 2, 2))
    yield case("four heads, two groups: neighbours share", *given(1, 4, 2, 1, 2, 2))
    yield case("six heads, two groups, two sequences", *given(2, 6, 2, 4, 5, 3))
    yield case("as many keys as queries", *given(1, 4, 2, 3, 3, 4))


@exercises.add(
    cases=_queries_and_groups,
    hints=(
        "With H = 4 and G = 2: heads 0 and 1 read group 0, heads 2 and 3 read group 1.",
        "Either repeat each group (repeat_interleave), or split the heads: q.unflatten(1, (G, H // G)).",
    ),
)
def my_grouped_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


@my_grouped_attention.mistakes(
    taking_turns="Your heads take turns (0, 1, 0, 1, ...). Neighbours share: 0, 0, 1, 1.",
    first_group_only="All heads read the first group.",
    mean_memory="You average the groups; each head reads one of them.",
    shared_queries="You average the queries of a group. Queries are each head's own; keys and values are shared.",
    causal="There is no mask in this exercise: every query sees every key.",
    unscaled="The scores are not divided by the root of the width e.",
    by_width="You divide by e; divide by its root.",
    values_take_turns="Keys and values are not shared alike: your heads take turns with the values (0, 1, 0, 1, ...).",
    by_all_widths="You divide by the root of H e, the width of all heads together; a head is e wide.",
    over_queries="The softmax runs over the queries; each query's weights over the keys must add up to one.",
    keys_for_values="What is mixed are the keys in your answer; it should be the values.",
)
def _(q, k, v, *, wrong):
    heads, groups = q.shape[1], k.shape[1]
    index = torch.arange(heads) % groups if wrong.taking_turns else torch.arange(heads) * groups // heads
    if wrong.first_group_only:
        index = torch.zeros_like(index)
    if wrong.mean_memory:
        k, v = k.mean(1, keepdim=True), v.mean(1, keepdim=True)
        index = torch.zeros_like(index)
    if wrong.shared_queries:
        means = q.unflatten(1, (groups, -1)).mean(2)
        q = means.repeat_interleave(heads // groups, 1)
    turns = torch.arange(heads) % v.shape[1] if wrong.values_take_turns else index
    k, v = k[:, index], v[:, turns]
    scores = q @ k.mT / (q.shape[-1] ** 0.5 if wrong.by_width else 1)
    scores = (
        scores if wrong.unscaled else scores / (q.shape[-1] * (heads if wrong.by_all_widths else 1)) ** 0.5
    )
    if wrong.causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-2 if wrong.over_queries else -1) @ (k if wrong.keys_for_values else v)
