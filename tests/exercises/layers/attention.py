"""Answers to the exercises on attention."""

import math

import torch
from torch import einsum
from torch.nn import functional as F

from tests.exercises.corpus import Corpus

corpus = Corpus("layers/attention")
right, wrong = corpus.right, corpus.wrong


def causal(t):
    return torch.ones(t, t, dtype=torch.bool).tril()


# ------------------------------------------------------------------------------------ my_cache_bytes


@right("my_cache_bytes")
def product(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return math.prod([2, length, num_kv_heads, dim // num_heads, num_layers, bytes_per_number])


@right("my_cache_bytes")
def loops(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    total = 0
    for _ in range(num_layers):
        for _ in ("keys", "values"):
            total += length * num_kv_heads * (dim // num_heads) * bytes_per_number
    return total


@right("my_cache_bytes")
def as_float(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 2.0 * length * num_layers * bytes_per_number * dim * num_kv_heads / num_heads


@right("my_cache_bytes")
def as_int(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return int(2 * length * num_kv_heads * dim / num_heads * num_layers * bytes_per_number)


@right("my_cache_bytes")
def measured(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    keys = torch.empty(num_layers, num_kv_heads, length, dim // num_heads, device="meta")
    return 2 * keys.numel() * bytes_per_number


@wrong("my_cache_bytes", "keys_only")
def half(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return length * num_kv_heads * dim // num_heads * num_layers * bytes_per_number


@wrong("my_cache_bytes", "queries_too")
def three(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 3 * length * num_kv_heads * dim // num_heads * num_layers * bytes_per_number


@wrong("my_cache_bytes", "query_heads")
def full_width(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 2 * length * dim * num_layers * bytes_per_number


@wrong("my_cache_bytes", "query_heads")
def split_by_kv_heads(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 2 * length * num_kv_heads * (dim // num_kv_heads) * num_layers * bytes_per_number


@wrong("my_cache_bytes", "one_layer")
def without_layers(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 2 * length * num_kv_heads * (dim // num_heads) * bytes_per_number


@wrong("my_cache_bytes", "numbers")
def without_bytes(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 2 * length * num_kv_heads * (dim // num_heads) * num_layers


@wrong("my_cache_bytes", "squared")
def scores_kept(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 2 * length**2 * num_kv_heads * (dim // num_heads) * num_layers * bytes_per_number


@wrong("my_cache_bytes", "keys_only")  # and one layer
def two_at_once(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return length * num_kv_heads * (dim // num_heads) * bytes_per_number


@wrong("my_cache_bytes", "ignored num_heads")
def heads_not_split(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 2 * length * num_kv_heads * dim * num_layers * bytes_per_number


@wrong("my_cache_bytes", "exception")
def typing_slip(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 2 * length * num_kvheads * dim


@wrong("my_cache_bytes", "factor")
def in_bits(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    return 16 * length * num_kv_heads * (dim // num_heads) * num_layers * bytes_per_number


# ----------------------------------------------------------------------------------------- my_scores


@right("my_scores")
def scores_by_einsum(q, k):
    return einsum("bhte,bhse->bhts", q, k) / math.sqrt(q.size(-1))


@right("my_scores")
def scores_by_loop(q, k):
    rows = [(q[:, :, t, None] * k).sum(-1) for t in range(q.shape[2])]
    return torch.stack(rows, 2) * q.shape[-1] ** -0.5


@right("my_scores")
def keys_scaled(q, k):
    return torch.matmul(q, (k / k.shape[-1] ** 0.5).transpose(-2, -1))


@right("my_scores")
def scores_by_broadcast(queries, keys):
    return (queries.unsqueeze(3) * keys.unsqueeze(2)).sum(-1) / torch.tensor(queries.shape[-1]).sqrt()


@right("my_scores")
def scores_in_float32(q, k):
    return (q.float() @ k.float().mT) / q.shape[-1] ** 0.5


@wrong("my_scores", "unscaled")
def no_root(q, k):
    return q @ k.transpose(2, 3)


@wrong("my_scores", "by_width")
def whole_width(q, k):
    return q @ k.mT / q.shape[-1]


@wrong("my_scores", "multiplied")
def upside_down(q, k):
    return q @ k.mT * q.shape[-1] ** 0.5


@wrong("my_scores", "keys_first")
def keys_by_queries(q, k):
    return k @ q.mT / q.shape[-1] ** 0.5


@wrong("my_scores", "exception")
def no_transposition(q, k):
    return q @ k / q.shape[-1] ** 0.5


@wrong("my_scores", "queries_for_width")
def root_of_length(q, k):
    return q @ k.mT / q.shape[-2] ** 0.5


@wrong("my_scores", "value")
def weights_already(q, k):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)


@wrong("my_scores", "sign")
def negative(q, k):
    return -q @ k.mT / q.shape[-1] ** 0.5


@wrong("my_scores", "no gradient")
def detached(q, k):
    return (q.detach() @ k.mT) / q.shape[-1] ** 0.5


@wrong("my_scores", "axis lost")
def heads_summed(q, k):
    return einsum("bhte,bhse->bts", q, k) / q.shape[-1] ** 0.5


@wrong("my_scores", "in place")
def in_place(q, k):
    q /= q.shape[-1] ** 0.5
    return q @ k.mT


# --------------------------------------------------------------------------------- my_causal_weights


@right("my_causal_weights")
def with_where(scores):
    t = scores.shape[-1]
    return torch.where(causal(t), scores, -torch.inf).softmax(dim=-1)


@right("my_causal_weights")
def added_bias(scores):
    t = scores.size(-1)
    return F.softmax(scores + torch.full((t, t), float("-inf")).triu(1), dim=-1)


@right("my_causal_weights")
def row_by_row(scores):
    t = scores.shape[-1]
    rows = [F.pad(scores[..., i, : i + 1].softmax(-1), (0, t - i - 1)) for i in range(t)]
    return torch.stack(rows, -2)


@right("my_causal_weights")
def by_hand(scores):
    t = scores.shape[-1]
    masked = scores.masked_fill(~causal(t), -1e30)
    e = (masked - masked.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


@right("my_causal_weights")
def renormalised(scores):
    weights = scores.softmax(-1) * causal(scores.shape[-1])
    return weights / weights.sum(-1, keepdim=True)


@wrong("my_causal_weights", "no_mask")
def forgotten(scores):
    return scores.softmax(-1)


@wrong("my_causal_weights", "mask_after")
def late(scores):
    return scores.softmax(-1).tril()


@wrong("my_causal_weights", "zero_scores")
def multiplied(scores):
    return (scores * causal(scores.shape[-1])).softmax(-1)


@wrong("my_causal_weights", "zero_scores")
def lower_triangle(scores):
    return scores.tril().softmax(-1)


@wrong("my_causal_weights", "past_hidden")
def wrong_triangle(scores):
    t = scores.shape[-1]
    return scores.masked_fill(causal(t).T.logical_not(), -torch.inf).softmax(-1)


@wrong("my_causal_weights", "past_hidden")
def mask_inverted(scores):
    return scores.masked_fill(causal(scores.shape[-1]).tril(-1), -torch.inf).softmax(-1)


@wrong("my_causal_weights", "nan", "own_token_hidden")
def strict(scores):
    return scores.masked_fill(~causal(scores.shape[-1]).tril(-1), -torch.inf).softmax(-1)


@wrong("my_causal_weights", "over_queries")
def down(scores):
    return scores.masked_fill(~causal(scores.shape[-1]), -torch.inf).softmax(-2)


@wrong("my_causal_weights", "no_softmax", "nan", "value")
def masked_only(scores):
    return scores.masked_fill(~causal(scores.shape[-1]), -1e9)


@wrong("my_causal_weights", "nan", "overflow")
def naive_exponential(scores):
    e = scores.exp() * causal(scores.shape[-1])
    return e / e.sum(-1, keepdim=True)


@wrong("my_causal_weights", "in place")
def filled_in_place(scores):
    return scores.masked_fill_(~causal(scores.shape[-1]), -torch.inf).softmax(-1)


@wrong("my_causal_weights", "over_queries", "mask_after")
def two_mistakes(scores):
    return scores.softmax(-2).tril()


# -------------------------------------------------------------------------------------- my_attention


def projected(x, *weights):
    return [einsum("btd,hde->bhte", x, w) for w in weights]


@right("my_attention")
def fused(x, wq, wk, wv, wo):
    heads = F.scaled_dot_product_attention(*projected(x, wq, wk, wv), is_causal=True)
    return einsum("bhte,hed->btd", heads, wo)


@right("my_attention")
def head_by_head(x, wq, wk, wv, wo):
    total = torch.zeros_like(x)
    for h in range(len(wq)):
        q, k, v = x @ wq[h], x @ wk[h], x @ wv[h]
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~causal(x.shape[1]), -torch.inf)
        total = total + scores.softmax(-1) @ v @ wo[h]
    return total


@right("my_attention")
def token_by_token(x, wq, wk, wv, wo):
    q, k, v = projected(x, wq, wk, wv)
    out = []
    for t in range(x.shape[1]):
        s = einsum("bhe,bhse->bhs", q[:, :, t], k[:, :, : t + 1]) / q.shape[-1] ** 0.5
        out.append(einsum("bhs,bhse,hed->bd", s.softmax(-1), v[:, :, : t + 1], wo))
    return torch.stack(out, 1)


@right("my_attention")
def heads_joined(x, wq, wk, wv, wo):
    q, k, v = projected(x, wq, wk, wv)
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~causal(x.shape[1]), -torch.inf).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2) @ wo.flatten(0, 1)


@right("my_attention")
def with_matmul(x, wq, wk, wv, wo):
    q, k, v = (x[:, None] @ w for w in (wq, wk, wv))
    bias = torch.zeros(x.shape[1], x.shape[1]).masked_fill(~causal(x.shape[1]), -torch.inf)
    return (torch.softmax(q @ k.mT * q.shape[-1] ** -0.5 + bias, -1) @ v @ wo).sum(1)


@wrong("my_attention", "no_mask")
def sees_all(x, wq, wk, wv, wo):
    return einsum("bhte,hed->btd", F.scaled_dot_product_attention(*projected(x, wq, wk, wv)), wo)


@wrong("my_attention", "no_scale")
def not_scaled(x, wq, wk, wv, wo):
    q, k, v = projected(x, wq, wk, wv)
    return einsum("bhte,hed->btd", F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0), wo)


@wrong("my_attention", "width_of_the_stream")
def by_stream(x, wq, wk, wv, wo):
    q, k, v = projected(x, wq, wk, wv)
    scale = x.shape[-1] ** -0.5
    return einsum("bhte,hed->btd", F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale), wo)


@wrong("my_attention", "mask_too_late")
def late_mask(x, wq, wk, wv, wo):
    q, k, v = projected(x, wq, wk, wv)
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * causal(x.shape[1])
    return einsum("bhte,hed->btd", weights @ v, wo)


@wrong("my_attention", "no_mask", "no_scale")
def neither(x, wq, wk, wv, wo):
    q, k, v = projected(x, wq, wk, wv)
    return einsum("bhte,hed->btd", (q @ k.mT).softmax(-1) @ v, wo)


@wrong("my_attention", "mean_of_heads")
def averaged(x, wq, wk, wv, wo):
    return fused(x, wq, wk, wv, wo) / len(wo)


@wrong("my_attention", "adds_input")
def residual(x, wq, wk, wv, wo):
    return x + fused(x, wq, wk, wv, wo)


@wrong("my_attention", "keys_for_values")
def keys_mixed(x, wq, wk, wv, wo):
    return fused(x, wq, wk, wk, wo)


@wrong("my_attention", "exchanged wk and wv", "values_for_keys")
def swapped(x, wq, wk, wv, wo):
    return fused(x, wq, wv, wk, wo)


@wrong("my_attention", "exchanged wq and wk", "turned")
def queries_for_keys(x, wq, wk, wv, wo):
    return fused(x, wk, wq, wv, wo)


@wrong("my_attention", "shape")
def heads_left(x, wq, wk, wv, wo):
    return einsum(
        "bhte,hed->bhtd", F.scaled_dot_product_attention(*projected(x, wq, wk, wv), is_causal=True), wo
    )


@wrong("my_attention", "over_queries")
def softmax_down(x, wq, wk, wv, wo):
    q, k, v = projected(x, wq, wk, wv)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~causal(x.shape[1]), -torch.inf)
    return einsum("bhte,hed->btd", scores.softmax(2) @ v, wo)


@wrong("my_attention", "ignored wo", "exception")
def no_output(x, wq, wk, wv, wo):
    q, k, v = projected(x, wq, wk, wv)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).sum(1) @ torch.ones(wo.shape[1:])


# ------------------------------------------------------------------------------ my_grouped_attention


@right("my_grouped_attention")
def repeated(q, k, v):
    n = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat_interleave(n, 1), v.repeat_interleave(n, 1))


@right("my_grouped_attention")
def head_of_group(q, k, v):
    heads, groups = q.shape[1], k.shape[1]
    out = []
    for h in range(heads):
        g = h * groups // heads
        weights = (q[:, h] @ k[:, g].mT / math.sqrt(q.shape[-1])).softmax(-1)
        out.append(weights @ v[:, g])
    return torch.stack(out, 1)


@right("my_grouped_attention")
def indexed(q, k, v):
    index = torch.arange(q.shape[1]) // (q.shape[1] // k.shape[1])
    weights = torch.softmax(einsum("bhte,bhse->bhts", q, k[:, index]) / q.shape[-1] ** 0.5, -1)
    return einsum("bhts,bhse->bhte", weights, v[:, index])


@right("my_grouped_attention")
def expanded(q, k, v):
    n = q.shape[1] // k.shape[1]
    k, v = (x[:, :, None].expand(-1, -1, n, -1, -1).flatten(1, 2) for x in (k, v))
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


@right("my_grouped_attention")
def grouped_view(queries, keys, values):
    b, h, t, e = queries.shape
    g = keys.shape[1]
    split = queries.reshape(b, g, h // g, t, e)
    weights = (split @ keys[:, :, None].mT * e**-0.5).softmax(-1)
    return (weights @ values[:, :, None]).reshape(b, h, t, e)


@wrong("my_grouped_attention", "taking_turns")
def tiled(q, k, v):
    n = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat(1, n, 1, 1), v.repeat(1, n, 1, 1))


@wrong("my_grouped_attention", "causal")
def masked(q, k, v):
    n = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@wrong("my_grouped_attention", "unscaled")
def unscaled_groups(q, k, v):
    n = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
    return (q @ k.mT).softmax(-1) @ v


@wrong("my_grouped_attention", "exception")
def not_repeated(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v[:, : 0 + 1].expand(-1, 7, -1, -1)


@wrong("my_grouped_attention", "first_group_only")
def first_only(q, k, v):
    return F.scaled_dot_product_attention(
        q, k[:, :1].expand(-1, q.shape[1], -1, -1), v[:, :1].expand(-1, q.shape[1], -1, -1)
    )


@wrong("my_grouped_attention", "mean_memory")
def mean_keys(q, k, v):
    k, v = k.mean(1, keepdim=True), v.mean(1, keepdim=True)
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


@wrong("my_grouped_attention", "shared_queries")
def one_query_a_group(q, k, v):
    n = q.shape[1] // k.shape[1]
    q = q.unflatten(1, (-1, n)).mean(2)
    return F.scaled_dot_product_attention(q, k, v).repeat_interleave(n, 1)


@wrong("my_grouped_attention", "shape")
def groups_left(q, k, v):
    q = q.unflatten(1, (k.shape[1], -1))
    weights = (einsum("bgnte,bgse->bgnts", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return einsum("bgnts,bgse->bgnte", weights, v)


@wrong("my_grouped_attention", "over_queries")
def wrong_softmax(q, k, v):
    n = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(2) @ v


@wrong("my_grouped_attention", "unscaled", "taking_turns")
def both(q, k, v):
    n = q.shape[1] // k.shape[1]
    return (q @ k.repeat(1, n, 1, 1).mT).softmax(-1) @ v.repeat(1, n, 1, 1)


# ------------------------------------------------------------------------------------------ my_update


@right("my_update")
def update_by_einsum(state, patterns, beta):
    return einsum("tn,nd->td", F.softmax(beta * einsum("td,nd->tn", state, patterns), 1), patterns)


@right("my_update")
def update_by_loop(state, patterns, beta):
    return torch.stack([(beta * (patterns @ x)).softmax(0) @ patterns for x in state])


@right("my_update")
def update_by_attention(state, patterns, beta):
    return F.scaled_dot_product_attention(state[None], patterns[None], patterns[None], scale=beta)[0]


@right("my_update")
def transposed_update(xi, x, beta):
    return (x.T @ torch.softmax(beta * x @ xi.T, dim=0)).T


@right("my_update")
def update_in_logs(state, patterns, beta):
    s = beta * state @ patterns.T
    return (s - torch.logsumexp(s, -1, keepdim=True)).exp() @ patterns


@wrong("my_update", "no_beta", "ignored beta")
def beta_lost(state, patterns, beta):
    return (state @ patterns.T).softmax(-1) @ patterns


@wrong("my_update", "over_states")
def across_states(state, patterns, beta):
    return (beta * state @ patterns.T).softmax(0) @ patterns


@wrong("my_update", "divided_scores")
def temperature(state, patterns, beta):
    return (state @ patterns.T / beta).softmax(-1) @ patterns


@wrong("my_update", "adds_to_state")
def gradient_step(state, patterns, beta):
    return state + (beta * state @ patterns.T).softmax(-1) @ patterns


@wrong("my_update", "scores_only", "shape")
def weights_returned(state, patterns, beta):
    return (beta * state @ patterns.T).softmax(-1)


@wrong("my_update", "nan", "overflow")
def overflowing(state, patterns, beta):
    e = (beta * state @ patterns.T).exp()
    return e / e.sum(-1, keepdim=True) @ patterns


@wrong("my_update", "root_of_width")
def as_attention(state, patterns, beta):
    return (beta * state @ patterns.T / state.shape[-1] ** 0.5).softmax(-1) @ patterns


@wrong("my_update", "exception")
def columns(state, patterns, beta):
    return (beta * state @ patterns).softmax(-1) @ patterns.T


@wrong("my_update", "beta_outside")
def scaled_after(state, patterns, beta):
    return beta * (state @ patterns.T).softmax(-1) @ patterns


@wrong("my_update", "ignored beta", "best_alone")
def hard(state, patterns, beta):
    return patterns[(state @ patterns.T).argmax(-1)]


# ------------------------------------------------------------------------------------------ my_energy


@right("my_energy")
def energy_by_terms(state, patterns, beta):
    s = beta * state @ patterns.T
    first = -torch.logsumexp(s, 1) / beta
    return (
        first
        + 0.5 * (state * state).sum(1)
        + math.log(len(patterns)) / beta
        + 0.5 * (patterns**2).sum(1).max()
    )


@right("my_energy")
def energy_state_by_state(state, patterns, beta):
    rows = []
    for x in state:
        rows.append(x @ x / 2 - torch.logsumexp(beta * (patterns @ x), 0) / beta)
    constants = math.log(patterns.shape[0]) / beta + max(p @ p for p in patterns) / 2
    return torch.stack(rows) + constants


@right("my_energy")
def energy_shifted(state, patterns, beta):
    s = beta * state @ patterns.T
    top = s.amax(-1)
    lse = top + (s - top[:, None]).exp().sum(-1).log()
    return (math.log(len(patterns)) - lse) / beta + (
        state.square().sum(-1) + patterns.norm(dim=-1).amax() ** 2
    ) / 2


@right("my_energy")
def energy_mean(state, patterns, beta):
    s = beta * einsum("td,nd->tn", state, patterns)
    mean = torch.logsumexp(s - math.log(len(patterns)), -1)
    return -mean / beta + state.pow(2).sum(-1) / 2 + patterns.pow(2).sum(-1).max() / 2


@right("my_energy")
def energy_norms(state, patterns, beta):
    s = torch.logsumexp(beta * state @ patterns.T, dim=-1)
    n = torch.log(torch.tensor(len(patterns)))
    return (
        -s / beta
        + torch.linalg.vector_norm(state, dim=-1) ** 2 / 2
        + n / beta
        + torch.amax(patterns.norm(dim=1)) ** 2 / 2
    )


@wrong("my_energy", "no_constants")
def bare(state, patterns, beta):
    return -torch.logsumexp(beta * state @ patterns.T, -1) / beta + state.square().sum(-1) / 2


@wrong("my_energy", "no_half")
def whole_square(state, patterns, beta):
    return energy_by_terms(state, patterns, beta) + state.square().sum(-1) / 2


@wrong("my_energy", "upside_down")
def plus_lse(state, patterns, beta):
    return energy_by_terms(state, patterns, beta) + 2 * torch.logsumexp(beta * state @ patterns.T, -1) / beta


@wrong("my_energy", "nan", "overflow")
def plain_exponential(state, patterns, beta):
    lse = (beta * state @ patterns.T).exp().sum(-1).log() / beta
    return (
        -lse
        + state.square().sum(-1) / 2
        + math.log(len(patterns)) / beta
        + patterns.square().sum(-1).max() / 2
    )


@wrong("my_energy", "largest_not_squared")
def norm_only(state, patterns, beta):
    lse = torch.logsumexp(beta * state @ patterns.T, -1) / beta
    return (
        -lse + state.square().sum(-1) / 2 + math.log(len(patterns)) / beta + patterns.norm(dim=-1).max() / 2
    )


@wrong("my_energy", "shape", "one_energy")
def summed(state, patterns, beta):
    return energy_by_terms(state, patterns, beta).sum()


@wrong("my_energy", "log_n_undivided")
def n_alone(state, patterns, beta):
    return energy_by_terms(state, patterns, beta) + math.log(len(patterns)) * (1 - 1 / beta)


@wrong("my_energy", "no_log_n")
def without_n(state, patterns, beta):
    return energy_by_terms(state, patterns, beta) - math.log(len(patterns)) / beta


@wrong("my_energy", "no_largest")
def without_largest(state, patterns, beta):
    return energy_by_terms(state, patterns, beta) - patterns.square().sum(-1).max() / 2


@wrong("my_energy", "no_division")
def undivided(state, patterns, beta):
    return energy_by_terms(state, patterns, beta) + (1 / beta - 1) * torch.logsumexp(
        beta * state @ patterns.T, -1
    )


@wrong("my_energy", "no_half", "no_log_n")
def two_terms(state, patterns, beta):
    return (
        energy_by_terms(state, patterns, beta) + state.square().sum(-1) / 2 - math.log(len(patterns)) / beta
    )


# ----------------------------------------------------------------------------------- my_all_attention


@right("my_all_attention")
def concatenated(q, k, v, slot_keys, slot_values):
    n, t = slot_keys.shape[1], q.shape[2]
    k, v = (torch.cat([s.expand(len(q), -1, -1, -1), x], 2) for s, x in ((slot_keys, k), (slot_values, v)))
    mask = torch.cat([torch.ones(t, n, dtype=torch.bool), causal(t)], 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@right("my_all_attention")
def two_kinds_of_scores(q, k, v, slot_keys, slot_values):
    root = q.shape[-1] ** 0.5
    slots = q @ slot_keys.mT / root
    tokens = (q @ k.mT / root).masked_fill(~causal(q.shape[2]), -torch.inf)
    weights = torch.cat([slots, tokens], -1).softmax(-1)
    n = slot_keys.shape[1]
    return weights[..., :n] @ slot_values + weights[..., n:] @ v


@right("my_all_attention")
def slots_last(q, k, v, slot_keys, slot_values):
    b, t = q.shape[0], q.shape[2]
    keys = torch.cat([k, slot_keys.expand(b, -1, -1, -1)], 2)
    values = torch.cat([v, slot_values.expand(b, -1, -1, -1)], 2)
    hidden = F.pad(~causal(t), (0, slot_keys.shape[1]))
    return (q @ keys.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ values


@right("my_all_attention")
def token_after_token(q, k, v, slot_keys, slot_values):
    out = []
    for t in range(q.shape[2]):
        keys = torch.cat([slot_keys.expand(len(q), -1, -1, -1), k[:, :, : t + 1]], 2)
        values = torch.cat([slot_values.expand(len(q), -1, -1, -1), v[:, :, : t + 1]], 2)
        out.append(F.scaled_dot_product_attention(q[:, :, t : t + 1], keys, values))
    return torch.cat(out, 2)


@right("my_all_attention")
def with_repeat(q, k, v, slot_keys, slot_values):
    b, n = len(q), slot_keys.size(1)
    keys = torch.cat((slot_keys[None].repeat(b, 1, 1, 1), k), dim=-2)
    values = torch.cat((slot_values[None].repeat(b, 1, 1, 1), v), dim=-2)
    s = einsum("bhte,bhse->bhts", q, keys) / math.sqrt(q.size(-1))
    s = s + torch.full(s.shape[-2:], -torch.inf).triu(n + 1)
    return einsum("bhts,bhse->bhte", s.softmax(-1), values)


@wrong("my_all_attention", "masked_slots")
def one_bug_left(q, k, v, slot_keys, slot_values):
    b, t, n = q.shape[0], q.shape[2], slot_keys.shape[1]
    keys = torch.cat([slot_keys.expand(b, -1, -1, -1), k], dim=2)
    values = torch.cat([slot_values.expand(b, -1, -1, -1), v], dim=2)
    hidden = torch.ones(t, n + t, dtype=torch.bool).triu(1)
    return (q @ keys.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ values


@wrong("my_all_attention", "mixed_up")
def other_bug_left(q, k, v, slot_keys, slot_values):
    b, t, n = q.shape[0], q.shape[2], slot_keys.shape[1]
    keys = torch.cat([slot_keys.expand(b, -1, -1, -1), k], dim=2)
    values = torch.cat([v, slot_values.expand(b, -1, -1, -1)], dim=2)
    hidden = torch.ones(t, n + t, dtype=torch.bool).triu(n + 1)
    return (q @ keys.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ values


@wrong("my_all_attention", "masked_slots", "mixed_up")
def as_given(q, k, v, slot_keys, slot_values):
    b, t, n = q.shape[0], q.shape[2], slot_keys.shape[1]
    keys = torch.cat([slot_keys.expand(b, -1, -1, -1), k], dim=2)
    values = torch.cat([v, slot_values.expand(b, -1, -1, -1)], dim=2)
    hidden = torch.ones(t, n + t, dtype=torch.bool).triu(1)
    return (q @ keys.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ values


@wrong("my_all_attention", "own_token_hidden")
def triu_n(q, k, v, slot_keys, slot_values):
    b, t, n = q.shape[0], q.shape[2], slot_keys.shape[1]
    keys = torch.cat([slot_keys.expand(b, -1, -1, -1), k], dim=2)
    values = torch.cat([slot_values.expand(b, -1, -1, -1), v], dim=2)
    hidden = torch.ones(t, n + t, dtype=torch.bool).triu(n)
    return (q @ keys.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ values


@wrong("my_all_attention", "no_mask", "future")
def mask_dropped(q, k, v, slot_keys, slot_values):
    keys = torch.cat([slot_keys.expand(len(q), -1, -1, -1), k], dim=2)
    values = torch.cat([slot_values.expand(len(q), -1, -1, -1), v], dim=2)
    return (q @ keys.mT / q.shape[-1] ** 0.5).softmax(-1) @ values


@wrong("my_all_attention", "two_softmaxes")
def added(q, k, v, slot_keys, slot_values):
    b = len(q)
    context = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return context + F.scaled_dot_product_attention(
        q, slot_keys.expand(b, -1, -1, -1), slot_values.expand(b, -1, -1, -1)
    )


@wrong("my_all_attention", "exception")
def not_expanded(q, k, v, slot_keys, slot_values):
    keys = torch.cat([slot_keys, k], dim=2)
    return q @ keys.mT


@wrong("my_all_attention", "unscaled")
def never_scaled(q, k, v, slot_keys, slot_values):
    n, t = slot_keys.shape[1], q.shape[2]
    k, v = (torch.cat([s.expand(len(q), -1, -1, -1), x], 2) for s, x in ((slot_keys, k), (slot_values, v)))
    mask = torch.ones(t, n + t, dtype=torch.bool).tril(n)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)


@wrong("my_all_attention", "context_values_only")
def slots_take_weight_only(q, k, v, slot_keys, slot_values):
    return concatenated(q, k, v, slot_keys, torch.zeros_like(slot_values))


@wrong("my_all_attention", "ignored slot_keys")
def slots_left_out(q, k, v, slot_keys, slot_values):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


# ---------------------------------------------------------------------------------- my_confused_pair


@right("my_confused_pair")
def twice():
    x = torch.randn(3, 4)
    return x, x.repeat(2, 1)


@right("my_confused_pair")
def interleaved():
    return torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [0.0], [1.0], [1.0], [0.0], [0.0]])[
        [0, 1, 2, 4]
    ]


@wrong("my_confused_pair", "value")
def one_more():
    x = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    return x, torch.cat([x, x[:1]])


@wrong("my_confused_pair", "value")
def same_length():
    x = torch.tensor([[1.0], [2.0], [3.0]])
    return x, x[[1, 0, 2]]


@wrong("my_confused_pair", "value")
def all_alike():
    return torch.ones(2, 3), torch.ones(4, 3)


@wrong("my_confused_pair", "value")
def only_one():
    return torch.ones(2, 3)


@wrong("my_confused_pair", "type", "value")
def not_tensors():
    return "a", "b"


# ------------------------------------------------------------------------------------- my_relational


@right("my_relational")
def two_einsums(a, rho, z, w):
    seen = einsum("bhts,brts->bhtr", a, rho)
    return einsum("bhtr,hre->bhte", seen, w) + a @ z


@right("my_relational")
def matmuls(a, rho, z, w):
    seen = (a.permute(0, 2, 1, 3) @ rho.permute(0, 2, 3, 1)).transpose(1, 2)
    return seen @ w + a @ z


@right("my_relational")
def relation_by_relation(a, rho, z, w):
    total = torch.matmul(a, z)
    for r in range(rho.shape[1]):
        total = total + (a * rho[:, r, None]).sum(-1, keepdim=True) * w[:, r, None]
    return total


@right("my_relational")
def head_after_head(a, rho, z, w):
    heads = []
    for h in range(a.shape[1]):
        seen = torch.stack([(a[:, h] * rho[:, r]).sum(-1) for r in range(rho.shape[1])], -1)
        heads.append(seen @ w[h] + a[:, h] @ z[:, h])
    return torch.stack(heads, 1)


@right("my_relational")
def symbols_first(a, rho, z, w):
    return torch.einsum("bhts,bhse->bhte", a, z) + torch.einsum(
        "bhtr,hre->bhte", torch.einsum("bhts,brts->bhtr", [a, rho]), w
    )


@wrong("my_relational", "no tensor above a size")
def literally(a, rho, z, w):
    message = einsum("brts,hre->bhtse", rho, w) + z[:, :, None]
    return einsum("bhts,bhtse->bhte", a, message)


@wrong("my_relational", "no_symbol", "ignored z")
def relations_only(a, rho, z, w):
    return einsum("bhtr,hre->bhte", einsum("bhts,brts->bhtr", a, rho), w)


@wrong("my_relational", "symbols_only", "ignored rho")
def symbols_alone(a, rho, z, w):
    return a @ z


@wrong("my_relational", "relations_unweighted")
def unweighted(a, rho, z, w):
    return einsum("brt,hre->bhte", rho.sum(-1), w) + a @ z


@wrong("my_relational", "exception", "turned_relation")
def turned(a, rho, z, w):
    return einsum("bhtr,hre->bhte", einsum("bhts,brst->bhtr", a, rho), w) + a @ z


@wrong("my_relational", "symbol_per_relation")
def too_many_symbols(a, rho, z, w):
    return einsum("bhtr,hre->bhte", einsum("bhts,brts->bhtr", a, rho), w) + rho.shape[1] * (a @ z)


@wrong("my_relational", "mean_of_relations")
def mean_relations(a, rho, z, w):
    return einsum("bhtr,hre->bhte", einsum("bhts,brts->bhtr", a, rho), w) / w.shape[1] + a @ z


@wrong("my_relational", "same_for_all_heads", "how w enters", "another order", "value")
def first_head(a, rho, z, w):
    return einsum("bhtr,re->bhte", einsum("bhts,brts->bhtr", a, rho), w[0]) + a @ z


@wrong("my_relational", "softmax_on_relations")
def shares(a, rho, z, w):
    return einsum("bhtr,hre->bhte", einsum("bhts,brts->bhtr", a, rho.softmax(-1)), w) + a @ z


@wrong("my_relational", "no_symbol", "mean_of_relations")
def both_wrong(a, rho, z, w):
    return einsum("bhtr,hre->bhte", einsum("bhts,brts->bhtr", a, rho), w) / rho.shape[1]


# ------------------------------------------------------------------------------------- my_dictionary


@right("my_dictionary")
def by_eye(keys, values, question, size):
    eye = torch.eye(size)
    pairs = torch.cat([eye[keys], eye[values]], -1)
    last = torch.cat([eye[question], torch.zeros(len(question), size)], -1)
    return torch.cat([pairs, last.unsqueeze(1)], 1)


@right("my_dictionary")
def by_index(keys, values, question, size):
    b, n = keys.shape
    out = torch.zeros(b, n + 1, 2 * size)
    for i in range(b):
        for j in range(n):
            out[i, j, keys[i, j]] = out[i, j, size + values[i, j]] = 1.0
        out[i, n, question[i]] = 1.0
    return out


@right("my_dictionary")
def padded(keys, values, question, size):
    first = F.one_hot(torch.cat([keys, question[:, None]], 1), size)
    second = F.pad(F.one_hot(values, size), (0, 0, 0, 1))
    return torch.cat([first, second], -1).float()


@right("my_dictionary")
def scattered(keys, values, question, size):
    out = torch.zeros(keys.shape[0], keys.shape[1] + 1, 2 * size)
    out[:, :-1].scatter_(2, keys[..., None], 1.0)
    out[:, :-1].scatter_(2, values[..., None] + size, 1.0)
    return out.index_put((torch.arange(len(question)), torch.tensor(-1), question), torch.tensor(1.0))


@right("my_dictionary")
def compared(keys, values, question, size):
    digits = torch.arange(size)
    pairs = torch.cat([keys[..., None] == digits, values[..., None] == digits], -1)
    last = torch.cat([question[:, None] == digits, torch.zeros(len(question), size, dtype=torch.bool)], -1)
    return torch.cat([pairs, last[:, None]], 1).double()


@wrong("my_dictionary", "question_first")
def asked_first(keys, values, question, size):
    return compared(keys, values, question, size).roll(1, 1)


@wrong("my_dictionary", "halves_swapped")
def value_first(keys, values, question, size):
    eye = torch.eye(size)
    pairs = torch.cat([eye[values], eye[keys]], -1)
    last = torch.cat([eye[question], torch.zeros(len(question), size)], -1)
    return torch.cat([pairs, last[:, None]], 1)


@wrong("my_dictionary", "value_of_question")
def key_twice(keys, values, question, size):
    eye = torch.eye(size)
    pairs = torch.cat([eye[keys], eye[values]], -1)
    return torch.cat([pairs, torch.cat([eye[question], eye[question]], -1)[:, None]], 1)


@wrong("my_dictionary", "shape", "no_question")
def pairs_only(keys, values, question, size):
    return torch.cat([F.one_hot(keys, size), F.one_hot(values, size)], -1).float()


@wrong("my_dictionary", "dtype")
def integers(keys, values, question, size):
    return compared(keys, values, question, size).long()


@wrong("my_dictionary", "dtype")
def booleans(keys, values, question, size):
    return compared(keys, values, question, size).bool()


@wrong("my_dictionary", "shape", "axes in another order")
def tokens_last(keys, values, question, size):
    return compared(keys, values, question, size).mT


@wrong("my_dictionary", "exception")
def no_axis(keys, values, question, size):
    eye = torch.eye(size)
    return torch.cat([torch.cat([eye[keys], eye[values]], -1), eye[question]], 1)


@wrong("my_dictionary", "shape", "off by one")
def one_zero_short(keys, values, question, size):
    return compared(keys, values, question, size)[..., :-1]


@wrong("my_dictionary", "value", "halves_swapped", "value_of_question")
def zeros_first(keys, values, question, size):
    x = compared(keys, values, question, size)
    x[:, -1] = x[:, -1].roll(size, -1)
    return x
