"""Answers to the exercises on structured maps."""

import math

import torch
from torch import einsum

from tests.exercises.corpus import Corpus

corpus = Corpus("layers/structured")
right, wrong = corpus.right, corpus.wrong


# ----------------------------------------------------------------------------------- my_largest_rank


@right("my_largest_rank")
def searched(o, i):
    r = 0
    while (r + 1) * (o + i) < o * i:
        r += 1
    return r


@right("my_largest_rank")
def by_ceiling(o, i):
    return max(math.ceil(o * i / (o + i)) - 1, 0)


@right("my_largest_rank")
def negative_division(o, i):
    return -(-o * i // (o + i)) - 1


@right("my_largest_rank")
def case_by_case(o, i):
    whole, rest = divmod(o * i, o + i)
    return whole if rest else whole - 1


@right("my_largest_rank")
def by_torch(o, i):
    ranks = torch.arange(min(o, i) + 1)
    return ranks[ranks * (o + i) < o * i].max()


@wrong("my_largest_rank", "equal_counts")
def floor(o, i):
    return o * i // (o + i)


@wrong("my_largest_rank", "rounded")
def rounded(o, i):
    return round(o * i / (o + i))


@wrong("my_largest_rank", "full_rank")
def smaller_side(o, i):
    return min(o, i)


@wrong("my_largest_rank", "halved")
def half(o, i):
    return min(o, i) // 2


@wrong("my_largest_rank", "one_factor")
def u_alone(o, i):
    return (o * i - 1) // max(o, i)


@wrong("my_largest_rank", "value")
def not_an_integer(o, i):
    return o * i / (o + i)


@wrong("my_largest_rank", "value", "offset")
def one_above(o, i):
    return (o * i - 1) // (o + i) + 1


@wrong("my_largest_rank", "value")
def difference(o, i):
    return o * i - (o + i)


@wrong("my_largest_rank", "type")
def a_comparison(o, i):
    return o * i > o + i


@wrong("my_largest_rank", "exception")
def undefined(o, i):
    return r * (o + i) < o * i


@wrong("my_largest_rank", "value")
def one_below(o, i):
    return max(o * i // (o + i) - 1, 0)


# --------------------------------------------------------------------------------------- my_balanced


@right("my_balanced")
def by_qr(u, v):
    (q, a), (p, b) = torch.linalg.qr(u), torch.linalg.qr(v)
    left, s, right = torch.linalg.svd(a @ b.T)
    return q @ left @ s.sqrt().diag(), p @ right.T @ s.sqrt().diag()


@right("my_balanced")
def by_eigenvectors(u, v):
    values, vectors = torch.linalg.eigh(u.T @ u)
    root = vectors * values.sqrt() @ vectors.T  # u = q root, with q orthonormal
    q = u @ torch.linalg.inv(root)
    left, s, right = torch.linalg.svd(v @ root, full_matrices=False)
    return q @ right.T * s.sqrt(), left * s.sqrt()


@right("my_balanced")
def signs_turned(u, v):
    a, b = by_qr(u, v)
    return [-a, -b]


@right("my_balanced")
def svd_of_each(u, v):
    a, s, ah = torch.linalg.svd(u, full_matrices=False)
    b, t, bh = torch.linalg.svd(v, full_matrices=False)
    left, values, right = torch.linalg.svd(s[:, None] * (ah @ bh.T) * t)
    return a @ (left * values**0.5), b @ (right.T * values**0.5)


@right("my_balanced")
def column_by_column(u, v):
    q, a = torch.linalg.qr(u)
    p, b = torch.linalg.qr(v)
    left, s, right = torch.svd(a @ b.mT)
    us = [math.sqrt(value) * (q @ left[:, n]) for n, value in enumerate(s.tolist())]
    vs = [math.sqrt(value) * (p @ right[:, n]) for n, value in enumerate(s.tolist())]
    return torch.stack(us, 1), torch.stack(vs, 1)


@wrong("my_balanced", "no tensor above a size")
def through_the_product(u, v):
    p, s, qh = torch.linalg.svd(u @ v.T, full_matrices=False)
    r = u.shape[1]
    return p[:, :r] * s[:r].sqrt(), qh[:r].T * s[:r].sqrt()


@wrong("my_balanced", "unchanged")
def as_they_came(u, v):
    return u, v


@wrong("my_balanced", "all_left")
def values_left(u, v):
    q, a = torch.linalg.qr(u)
    p, b = torch.linalg.qr(v)
    left, s, right = torch.linalg.svd(a @ b.mT)
    return q @ left * s, p @ right.mT


@wrong("my_balanced", "squared")
def values_twice(u, v):
    q, a = torch.linalg.qr(u)
    p, b = torch.linalg.qr(v)
    left, s, right = torch.linalg.svd(a @ b.mT)
    return q @ left * s, p @ right.mT * s


@wrong("my_balanced", "ones")
def no_values(u, v):
    q, a = torch.linalg.qr(u)
    p, b = torch.linalg.qr(v)
    left, _, right = torch.linalg.svd(a @ b.mT)
    return q @ left, p @ right.mT


@wrong("my_balanced", "scaled_only")
def equal_lengths(u, v):
    lengths = (u.norm(dim=0) * v.norm(dim=0)).sqrt()
    return u / u.norm(dim=0) * lengths, v / v.norm(dim=0) * lengths


@wrong("my_balanced", "value")
def right_not_transposed(u, v):
    q, a = torch.linalg.qr(u)
    p, b = torch.linalg.qr(v)
    left, s, right = torch.linalg.svd(a @ b.mT)
    return q @ left * s.sqrt(), p @ right * s.sqrt()


@wrong("my_balanced", "exception")
def wrong_side(u, v):
    q, a = torch.linalg.qr(u)
    left, s, right = torch.linalg.svd(a @ v.mT)
    return q @ left * s.sqrt(), right.mT * s.sqrt()


@wrong("my_balanced", "value", "ones")
def qr_alone(u, v):
    return torch.linalg.qr(u).Q, torch.linalg.qr(v).Q


@wrong("my_balanced", "exception", "type")
def product_returned(u, v):
    q, a = torch.linalg.qr(u)
    return q @ a


@wrong("my_balanced", "all_right")
def values_right(u, v):
    q, a = torch.linalg.qr(u)
    p, b = torch.linalg.qr(v)
    left, s, right = torch.linalg.svd(a @ b.mT)
    return q @ left, p @ right.mT * s


# ------------------------------------------------------------------------------- my_transposed_train


@right("my_transposed_train")
def two_einsums(y, left, right):
    m1, m2, _, _ = left.shape
    z = einsum("bpq,pqis->bqis", y.view(-1, m1, m2), left)
    return einsum("bqis,qijs->bij", z, right).flatten(1)


@right("my_transposed_train")
def matmuls(y, left, right):
    m1, m2, n1, r = left.shape
    z = y.unflatten(1, (m1, m2)).permute(2, 0, 1) @ left.permute(1, 0, 2, 3).flatten(2)  # q, b, (i s)
    z = z.unflatten(2, (n1, r)).permute(2, 1, 0, 3).flatten(2)  # i, b, (q s)
    return (z @ right.permute(1, 0, 3, 2).flatten(1, 2)).permute(1, 0, 2).flatten(1)


@right("my_transposed_train")
def rank_by_rank(y, left, right):
    table, total = y.reshape(len(y), *left.shape[:2]), 0
    for s in range(left.shape[-1]):
        z = einsum("bpq,pqi->bqi", table, left[..., s])
        total = total + einsum("bqi,qij->bij", z, right[..., s])
    return total.reshape(len(y), -1)


@right("my_transposed_train")
def block_by_block(y, left, right):
    table = y.unflatten(1, left.shape[:2])
    out = torch.zeros(len(y), *right.shape[1:3])
    for q in range(left.shape[1]):
        for i in range(left.shape[2]):
            out[:, i] = out[:, i] + table[:, :, q] @ left[:, q, i] @ right[q, i].T
    return out.flatten(1)


@right("my_transposed_train")
def single_precision(y, left, right):
    return two_einsums(y.float(), left.float(), right.float())


@wrong("my_transposed_train", "no tensor above a size")
def dense(y, left, right):
    return y @ einsum("pqis,qijs->pqij", left, right).flatten(2).flatten(0, 1)


@wrong("my_transposed_train", "output_turned")
def y_turned(y, left, right):
    m1, m2, _, _ = left.shape
    z = einsum("bqp,pqis->bqis", y.view(-1, m2, m1), left)
    return einsum("bqis,qijs->bij", z, right).flatten(1)


@wrong("my_transposed_train", "result_turned")
def x_turned(y, left, right):
    m1, m2, _, _ = left.shape
    z = einsum("bpq,pqis->bqis", y.view(-1, m1, m2), left)
    return einsum("bqis,qijs->bji", z, right).flatten(1)


@wrong("my_transposed_train", "rank_summed_early")
def s_summed_twice(y, left, right):
    m1, m2, _, _ = left.shape
    z = einsum("bpq,pqis->bqi", y.view(-1, m1, m2), left)
    return einsum("bqi,qijs->bij", z, right).flatten(1)


@wrong("my_transposed_train", "exception", "shape")
def not_transposed(y, left, right):
    _m2, n1, n2, _ = right.shape
    z = einsum("bij,qijs->bqis", y.reshape(-1, n1, n2), right)
    return einsum("bqis,pqis->bpq", z, left).flatten(1)


@wrong("my_transposed_train", "shape")
def table_returned(y, left, right):
    return two_einsums(y, left, right).unflatten(1, right.shape[1:3])


@wrong("my_transposed_train", "scaled")
def mean_over_s(y, left, right):
    return two_einsums(y, left, right) / left.shape[-1]


@wrong("my_transposed_train", "first_rank")
def only_first(y, left, right):
    return two_einsums(y, left[..., :1], right[..., :1])


@wrong("my_transposed_train", "ignored right", "exception")
def left_alone(y, left, right):
    m1, m2, _n1, _r = left.shape
    z = einsum("bpq,pqis->bis", y.view(-1, m1, m2), left).sum(-1)
    return z[:, :, None].expand(-1, -1, right.shape[2]).flatten(1)


@wrong("my_transposed_train", "sign")
def negative(y, left, right):
    return -two_einsums(y, left, right)


@wrong("my_transposed_train", "output_turned", "scaled")
def two_slips(y, left, right):
    return y_turned(y, left, right) / left.shape[-1]


# ----------------------------------------------------------------------------------- my_ordered_step


def step(u, v, x, y, b, lr, *, cut=True, move=None, scale=None):
    keep = (torch.arange(u.shape[1]) < b).to(u)
    e = (x @ (v * keep if cut else v) @ (u * keep if cut else u).T - y) / (scale or len(x))
    move = keep if move is None else move
    return u - lr * move * (e.T @ x @ v), v - lr * move * (x.T @ e @ u)


@right("my_ordered_step")
def mended(u, v, x, y, b, lr):
    return step(u, v, x, y, b, lr)


@right("my_ordered_step")
def columns_joined(u, v, x, y, b, lr):
    p, q = u[:, :b], v[:, :b]
    e = (x @ q @ p.mT - y) / x.shape[0]
    new_p, new_q = p - lr * e.mT @ (x @ q), q - lr * x.mT @ (e @ p)
    return torch.cat([new_p, u[:, b:]], 1), torch.cat([new_q, v[:, b:]], 1)


@right("my_ordered_step")
def sample_by_sample(u, v, x, y, b, lr):
    du, dv = torch.zeros_like(u), torch.zeros_like(v)
    for a, t in zip(x, y, strict=True):
        e = u[:, :b] @ (v[:, :b].mT @ a) - t
        du = du + torch.outer(e, torch.cat([v[:, :b].mT @ a, torch.zeros(u.shape[1] - b)]))
        dv = dv + torch.outer(a, torch.cat([u[:, :b].mT @ e, torch.zeros(u.shape[1] - b)]))
    return u - lr * du / len(x), v - lr * dv / len(x)


@right("my_ordered_step")
def by_autograd(u, v, x, y, b, lr):
    def loss(p, q):
        return ((x @ q[:, :b] @ p[:, :b].T - y) ** 2).sum() / (2 * len(x))

    du, dv = torch.func.grad(loss, argnums=(0, 1))(u, v)
    return u - lr * du, v - lr * dv


@right("my_ordered_step")
def cloned(u, v, x, y, b, lr):
    new_u, new_v = u.clone(), v.clone()
    e = x @ v[:, :b] @ u[:, :b].T - y
    new_u[:, :b] -= lr / len(x) * e.T @ x @ v[:, :b]
    new_v[:, :b] -= lr / len(x) * x.T @ e @ u[:, :b]
    return new_u, new_v


@wrong("my_ordered_step", "full_residual", "new_u_for_v")
def as_given(u, v, x, y, b, lr):
    error = (x @ v @ u.mT - y) / len(x)
    moving = (torch.arange(u.shape[1]) < b).to(u)
    u = u - lr * moving * (error.mT @ x @ v)
    v = v - lr * moving * (x.mT @ error @ u)
    return u, v


@wrong("my_ordered_step", "full_residual")
def first_bug_left(u, v, x, y, b, lr):
    return step(u, v, x, y, b, lr, cut=False)


@wrong("my_ordered_step", "new_u_for_v")
def second_bug_left(u, v, x, y, b, lr):
    error = (x @ v[:, :b] @ u[:, :b].mT - y) / len(x)
    moving = (torch.arange(u.shape[1]) < b).to(u)
    u = u - lr * moving * (error.mT @ x @ v)
    return u, v - lr * moving * (x.mT @ error @ u)


@wrong("my_ordered_step", "all_columns_move")
def everything_moves(u, v, x, y, b, lr):
    return step(u, v, x, y, b, lr, move=torch.ones(u.shape[1]))


@wrong("my_ordered_step", "summed")
def not_divided(u, v, x, y, b, lr):
    return step(u, v, x, y, b, lr, scale=1)


@wrong("my_ordered_step", "mean_over_entries")
def divided_by_all(u, v, x, y, b, lr):
    return step(u, v, x, y, b, lr, scale=y.numel())


@wrong("my_ordered_step", "without_the_half")
def twice(u, v, x, y, b, lr):
    return step(u, v, x, y, b, 2 * lr)


@wrong("my_ordered_step", "uphill")
def ascent(u, v, x, y, b, lr):
    return step(u, v, x, y, b, -lr)


@wrong("my_ordered_step", "u_only")
def v_stays(u, v, x, y, b, lr):
    return step(u, v, x, y, b, lr)[0], v


@wrong("my_ordered_step", "shape")
def columns_dropped(u, v, x, y, b, lr):
    new_u, new_v = step(u, v, x, y, b, lr)
    return new_u[:, :b], new_v[:, :b]


@wrong("my_ordered_step", "in place")
def overwritten(u, v, x, y, b, lr):
    new_u, new_v = step(u, v, x, y, b, lr)
    u[:], v[:] = new_u, new_v
    return u, v


# ---------------------------------------------------------------------------------- my_easy_and_hard


@right("my_easy_and_hard")
def rotation():
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    a = torch.tensor([0.0, 1.0, -1.0, 0.0])
    return torch.kron(turn, turn), torch.outer(a, a)


@right("my_easy_and_hard")
def scaled():
    a = torch.tensor([3.0, 0.0, 0.0, -3.0])
    return [5 * torch.eye(4), a[:, None] @ a[None]]


@wrong("my_easy_and_hard", "value")
def both_identity():
    return torch.eye(4), torch.eye(4)


@wrong("my_easy_and_hard", "value")
def swapped():
    return scaled()[::-1]


@wrong("my_easy_and_hard", "value")
def ones_of_rank_one():
    return torch.eye(4), torch.ones(4, 4)


@wrong("my_easy_and_hard", "value")
def low_rank_kronecker():
    return torch.kron(torch.ones(2, 2), torch.eye(2)), scaled()[1]


@wrong("my_easy_and_hard", "value")
def two_by_two():
    return torch.eye(2), torch.ones(2, 2)


# ------------------------------------------------------------------------------ my_truncation_errors


def ratios(target, u, v, best, first=1):
    s = torch.linalg.svdvals(target)
    last = u.shape[1] if first else u.shape[1] - 1
    return torch.stack([(target - u[:, :b] @ v[:, :b].T).norm() / best(s, b) for b in range(first, last)])


@right("my_truncation_errors")
def straight(target, u, v):
    return ratios(target, u, v, lambda s, b: s[b:].norm())


@right("my_truncation_errors")
def cumulated(target, u, v):
    s = torch.linalg.svdvals(target)
    partial = torch.stack([u[:, :b] @ v[:, :b].mT for b in range(1, u.shape[1])])
    ours = (target - partial).square().sum((1, 2)).sqrt()
    total = s.square().sum()
    return ours / (total - s.square().cumsum(0)[: len(ours)]).sqrt()


@right("my_truncation_errors")
def by_svd(target, u, v):
    p, s, q = torch.linalg.svd(target)
    out = []
    for b in range(1, u.shape[1]):
        best = target - p[:, :b] * s[:b] @ q[:b]
        out.append(torch.dist(target, u[:, :b] @ v[:, :b].T) / best.norm())
    return torch.stack(out)


@right("my_truncation_errors")
def outer_products(target, u, v):
    columns = einsum("or,ir->roi", u, v).cumsum(0)[:-1]
    s = torch.linalg.svdvals(target)
    tails = torch.stack([torch.sqrt((s[b:] ** 2).sum()) for b in range(1, u.shape[1])])
    return torch.linalg.matrix_norm(target - columns) / tails


@right("my_truncation_errors")
def in_a_tensor(target, u, v):
    out = torch.zeros(u.shape[1] - 1)
    s = torch.linalg.svdvals(target)
    for b in range(1, u.shape[1]):
        out[b - 1] = torch.linalg.norm(target - u[:, :b] @ v[:, :b].T) / torch.linalg.norm(s[b:])
    return out


@wrong("my_truncation_errors", "absolute")
def undivided(target, u, v):
    return ratios(target, u, v, lambda s, b: 1.0)


@wrong("my_truncation_errors", "squared")
def squares(target, u, v):
    return straight(target, u, v) ** 2


@wrong("my_truncation_errors", "next_value_only")
def spectral(target, u, v):
    return ratios(target, u, v, lambda s, b: s[b])


@wrong("my_truncation_errors", "by_norm_of_target")
def relative(target, u, v):
    return ratios(target, u, v, lambda s, b: target.norm())


@wrong("my_truncation_errors", "one_off")
def from_b_minus_one(target, u, v):
    return ratios(target, u, v, lambda s, b: s[b - 1 :].norm())


@wrong("my_truncation_errors", "from_zero")
def begins_with_none(target, u, v):
    return ratios(target, u, v, lambda s, b: s[b:].norm(), first=0)


@wrong("my_truncation_errors", "shape", "off by one")
def all_ranks(target, u, v):
    return torch.cat([straight(target, u, v), torch.ones(1)])


@wrong("my_truncation_errors", "value", "inverse")
def upside_down(target, u, v):
    return 1 / straight(target, u, v)


@wrong("my_truncation_errors", "type")
def a_list(target, u, v):
    return straight(target, u, v).tolist()


@wrong("my_truncation_errors", "exception")
def not_transposed_factor(target, u, v):
    return torch.stack([(target - u[:, :b] @ v[:, :b]).norm() for b in range(1, u.shape[1])])


@wrong("my_truncation_errors", "value")
def kept_values(target, u, v):
    return ratios(target, u, v, lambda s, b: s[:b].norm())


# -------------------------------------------------------------------------------------- my_addresses


@right("my_addresses")
def weighted(x, bits):
    return (x.reshape(len(x), -1, bits).gt(0) * 2 ** torch.arange(bits)).sum(-1)


@right("my_addresses")
def shifted(x, bits):
    z = (x > 0).long().unflatten(1, (-1, bits))
    return (z << torch.arange(bits)).sum(-1)


@right("my_addresses")
def counted_up(x, bits):
    out = torch.zeros(len(x), x.shape[1] // bits, dtype=torch.long)
    for k in range(out.shape[1]):
        for i in range(bits):
            out[:, k] += (x[:, k * bits + i] > 0).long() * 2**i
    return out


@right("my_addresses")
def product(x, bits):
    z = (x.unflatten(1, (-1, bits)) > 0).to(torch.float64)
    return (z @ (2.0 ** torch.arange(bits))).long()


@right("my_addresses")
def short_integers(x, bits):
    z = (x.unflatten(1, (-1, bits)) > 0).to(torch.int32)
    return (z * torch.tensor([2**i for i in range(bits)], dtype=torch.int32)).sum(-1, dtype=torch.int32)


@wrong("my_addresses", "reversed_bits")
def high_bit_first(x, bits):
    return (x.unflatten(1, (-1, bits)).gt(0) * 2 ** torch.arange(bits - 1, -1, -1)).sum(-1)


@wrong("my_addresses", "interleaved", "exception")
def every_so_many(x, bits):
    return (x.unflatten(1, (bits, -1)).mT.gt(0) * 2 ** torch.arange(bits)).sum(-1)


@wrong("my_addresses", "zero_is_positive")
def not_negative(x, bits):
    return (x.unflatten(1, (-1, bits)).ge(0) * 2 ** torch.arange(bits)).sum(-1)


@wrong("my_addresses", "negative_bits")
def inverted(x, bits):
    return (x.unflatten(1, (-1, bits)).le(0) * 2 ** torch.arange(bits)).sum(-1)


@wrong("my_addresses", "counted")
def how_many(x, bits):
    return x.unflatten(1, (-1, bits)).gt(0).sum(-1)


@wrong("my_addresses", "from_one", "factor")
def doubled(x, bits):
    return (x.unflatten(1, (-1, bits)).gt(0) * 2 ** torch.arange(1, bits + 1)).sum(-1)


@wrong("my_addresses", "dtype")
def floats(x, bits):
    return weighted(x, bits).double()


@wrong("my_addresses", "shape", "axis of length 1")
def axis_kept(x, bits):
    return (x.unflatten(1, (-1, bits)).gt(0) * 2 ** torch.arange(bits)).sum(-1, keepdim=True)


@wrong("my_addresses", "axis left")
def bits_returned(x, bits):
    return x.unflatten(1, (-1, bits)) > 0


@wrong("my_addresses", "value", "sign")
def squares_of_index(x, bits):
    return (x.unflatten(1, (-1, bits)).gt(0) * torch.arange(bits) ** 2).sum(-1)


# ----------------------------------------------------------------------------------------- my_memory


def memory(x, tables, p, *, address=weighted):
    chunks, rows, _ = tables.shape
    bits = rows.bit_length() - 1
    z = x.reshape(-1, chunks, bits)
    return (p(z)[..., None] * tables[torch.arange(chunks), address(x, bits)]).sum(1)


@right("my_memory")
def vectorised(x, tables, t):
    return memory(x, tables, lambda z: torch.sigmoid(2 * z.abs() / t).prod(-1))


@right("my_memory")
def with_gather(x, tables, t):
    chunks, _rows, _width = tables.shape
    z = x.unflatten(1, (chunks, -1))
    index = weighted(x, z.shape[-1])
    picked = torch.stack([tables[k][index[:, k]] for k in range(chunks)], 1)
    return einsum("bk,bko->bo", (1 / (1 + torch.exp(-2 * z.abs() / t))).prod(-1), picked)


@right("my_memory")
def chunk_by_chunk(x, tables, t):
    bits, out = tables.shape[1].bit_length() - 1, 0
    for k, table in enumerate(tables):
        z = x[:, k * bits : (k + 1) * bits]
        p = torch.ones(len(x))
        for i in range(bits):
            p = p * torch.sigmoid(2 * z[:, i].abs() / t)
        out = out + p[:, None] * table[weighted(z, bits)[:, 0]]
    return out


@right("my_memory")
def in_logarithms(x, tables, t):
    return memory(x, tables, lambda z: torch.nn.functional.logsigmoid(2 * z.abs() / t).sum(-1).exp())


@right("my_memory")
def by_one_hot(x, tables, t):
    chunks, rows, _ = tables.shape
    bits = rows.bit_length() - 1
    z = x.reshape(-1, chunks, bits)
    hot = torch.nn.functional.one_hot(weighted(x, bits), rows).to(x)
    p = torch.sigmoid(2 / t * z.abs()).prod(2)
    return einsum("bkr,bk,kro->bo", hot, p, tables)


@wrong("my_memory", "no_absolute_value")
def signed(x, tables, t):
    return memory(x, tables, lambda z: torch.sigmoid(2 * z / t).prod(-1))


@wrong("my_memory", "no_factor_two", "doubled t")
def without_two(x, tables, t):
    return memory(x, tables, lambda z: torch.sigmoid(z.abs() / t).prod(-1))


@wrong("my_memory", "mean_over_bits")
def mean_of_bits(x, tables, t):
    return memory(x, tables, lambda z: torch.sigmoid(2 * z.abs() / t).mean(-1))


@wrong("my_memory", "no_weight", "ignored t")
def unweighted(x, tables, t):
    return memory(x, tables, lambda z: torch.ones(z.shape[:2]))


@wrong("my_memory", "no_temperature", "ignored t")
def temperature_forgotten(x, tables, t):
    return memory(x, tables, lambda z: torch.sigmoid(2 * z.abs()).prod(-1))


@wrong("my_memory", "times_temperature", "inverse t")
def multiplied(x, tables, t):
    return memory(x, tables, lambda z: torch.sigmoid(2 * z.abs() * t).prod(-1))


@wrong("my_memory", "one_table")
def first_table(x, tables, t):
    return vectorised(x, tables[:1].expand_as(tables), t)


@wrong("my_memory", "mean_over_chunks", "mean for sum")
def averaged(x, tables, t):
    return vectorised(x, tables, t) / len(tables)


@wrong("my_memory", "reversed_bits")
def other_end(x, tables, t):
    p = lambda z: torch.sigmoid(2 * z.abs() / t).prod(-1)  # noqa: E731
    return memory(x, tables, p, address=high_bit_first)


@wrong("my_memory", "shape")
def rows_returned(x, tables, t):
    chunks = len(tables)
    bits = tables.shape[1].bit_length() - 1
    return tables[torch.arange(chunks), weighted(x, bits)]


@wrong("my_memory", "no_absolute_value", "no_factor_two")
def plain_sigmoid(x, tables, t):
    return memory(x, tables, lambda z: torch.sigmoid(z / t).prod(-1))


# ------------------------------------------------------------------------------------------- my_zero


def angles(u, k, m):
    a, b = u[k, m], u[k, m + 1]
    return torch.atan2(a.abs(), b.abs()), a.angle() - b.angle()


def mixer(theta, phi):
    e = torch.exp(1j * phi)
    c, s = theta.cos(), theta.sin()
    return torch.stack([torch.stack([e * c, -s + 0j]), torch.stack([e * s, c + 0j])])


@right("my_zero")
def concatenated(u, k, m):
    return torch.cat([u[:, :m], u[:, m : m + 2] @ mixer(*angles(u, k, m)).mH, u[:, m + 2 :]], 1)


@right("my_zero")
def on_a_clone(u, k, m):
    out = u.clone()
    out[:, m : m + 2] = u[:, m : m + 2] @ mixer(*angles(u, k, m)).conj().T
    return out


@right("my_zero")
def whole_matrix(u, k, m):
    t = torch.eye(len(u), dtype=u.dtype)
    t[m : m + 2, m : m + 2] = mixer(*angles(u, k, m))
    return u @ t.mH


@right("my_zero")
def without_angles(u, k, m):
    a, b = u[k, m], u[k, m + 1]
    r = (a.abs() ** 2 + b.abs() ** 2).sqrt()
    e = (a / a.abs()) * (b / b.abs()).conj()
    c, s = b.abs() / r, a.abs() / r
    p, q = u[:, m], u[:, m + 1]
    columns = [p * (e * c).conj() - q * s, p * (e * s).conj() + q * c]
    return torch.cat([u[:, :m], torch.stack(columns, 1), u[:, m + 2 :]], 1)


@right("my_zero")
def by_columns(u, k, m):
    theta, phi = angles(u, k, m)
    e = torch.polar(torch.ones_like(phi), -phi)
    first = u[:, m] * e * theta.cos() - u[:, m + 1] * theta.sin()
    second = u[:, m] * e * theta.sin() + u[:, m + 1] * theta.cos()
    return torch.column_stack([*u[:, :m].unbind(1), first, second, *u[:, m + 2 :].unbind(1)])


@wrong("my_zero", "not_inverted")
def times_t(u, k, m):
    return torch.cat([u[:, :m], u[:, m : m + 2] @ mixer(*angles(u, k, m)), u[:, m + 2 :]], 1)


@wrong("my_zero", "not_conjugated")
def only_transposed(u, k, m):
    return torch.cat([u[:, :m], u[:, m : m + 2] @ mixer(*angles(u, k, m)).mT, u[:, m + 2 :]], 1)


@wrong("my_zero", "not_transposed")
def only_conjugated(u, k, m):
    return torch.cat([u[:, :m], u[:, m : m + 2] @ mixer(*angles(u, k, m)).conj(), u[:, m + 2 :]], 1)


@wrong("my_zero", "angle_upside_down")
def other_ratio(u, k, m):
    theta, phi = angles(u, k, m)
    return torch.cat([u[:, :m], u[:, m : m + 2] @ mixer(math.pi / 2 - theta, phi).mH, u[:, m + 2 :]], 1)


@wrong("my_zero", "no_phase")
def real_rotation(u, k, m):
    theta, phi = angles(u, k, m)
    return torch.cat([u[:, :m], u[:, m : m + 2] @ mixer(theta, 0 * phi).mH, u[:, m + 2 :]], 1)


@wrong("my_zero", "in place")
def in_place(u, k, m):
    u[:, m : m + 2] = u[:, m : m + 2] @ mixer(*angles(u, k, m)).mH
    return u


@wrong("my_zero", "set_to_zero")
def erased(u, k, m):
    out = u.clone()
    out[k, m] = 0
    return out


@wrong("my_zero", "detached", "part of the gradient")
def by_numbers(u, k, m):
    theta, phi = (x.item() for x in angles(u, k, m))
    e = complex(math.cos(phi), math.sin(phi))
    t = torch.tensor([[e * math.cos(theta), -math.sin(theta)], [e * math.sin(theta), math.cos(theta)]])
    return torch.cat([u[:, :m], u[:, m : m + 2] @ t.to(u).mH, u[:, m + 2 :]], 1)


@wrong("my_zero", "shape")
def two_columns(u, k, m):
    return u[:, m : m + 2] @ mixer(*angles(u, k, m)).mH


@wrong("my_zero", "exception")
def wrong_order(u, k, m):
    return mixer(*angles(u, k, m)).mH @ u[:, m : m + 2]


@wrong("my_zero", "dtype", "exception")
def real_part(u, k, m):
    return concatenated(u, k, m).real


@right("my_ordered_step")
def written_into_clones(u, v, x, y, b, lr):
    new_u, new_v = u.clone(), v.clone()
    error = (x @ new_v[:, :b] @ new_u[:, :b].T - y) / len(x)
    du, dv = error.T @ (x @ new_v[:, :b]), x.T @ (error @ new_u[:, :b])
    new_u[:, :b] -= lr * du
    new_v[:, :b] -= lr * dv
    return new_u, new_v
