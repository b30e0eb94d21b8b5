"""Answers to the exercises on pooling."""

import itertools
import math

import torch
from torch.nn import functional as F

from tests.exercises.corpus import Corpus

corpus = Corpus("layers/pool")
right, wrong = corpus.right, corpus.wrong


# ------------------------------------------------------------------------------------ my_shared_rows


def bins(a, n):
    return [(m * a // n, -(-(m + 1) * a // n)) for m in range(n)]


@right("my_shared_rows")
def by_sets(a, n):
    seen, twice = set(), set()
    for start, stop in bins(a, n):
        rows = set(range(start, stop))
        twice |= seen & rows
        seen |= rows
    return len(twice)


@right("my_shared_rows")
def with_ceil(a, n):
    count = [0] * a
    for m in range(n):
        for row in range(math.floor(m * a / n), math.ceil((m + 1) * a / n)):
            count[row] += 1
    return len([c for c in count if c >= 2])


@right("my_shared_rows")
def by_torch(a, n):
    rows = torch.zeros(a)
    for start, stop in bins(a, n):
        rows[start:stop] += 1
    return int((rows > 1).sum())


@right("my_shared_rows")
def as_tensor(a, n):
    start, stop = (torch.tensor(x) for x in zip(*bins(a, n), strict=True))
    row = torch.arange(a)[:, None]
    return (((row >= start) & (row < stop)).sum(1) > 1).sum()


@right("my_shared_rows")
def by_borders(a, n):
    return len({m * a // n for m in range(1, n) if m * a % n})


@wrong("my_shared_rows", "floors_only")
def rounded_down(a, n):
    count = [0] * a
    for m in range(n):
        for row in range(m * a // n, (m + 1) * a // n):
            count[row] += 1
    return sum(c > 1 for c in count)


@wrong("my_shared_rows", "overlaps_counted")
def overlaps(a, n):
    pairs = bins(a, n)
    return sum(max(0, one[1] - two[0]) for one, two in itertools.pairwise(pairs))


@wrong("my_shared_rows", "inclusive")
def stop_included(a, n):
    count = [0] * (a + 1)
    for start, stop in bins(a, n):
        for row in range(start, min(stop + 1, a)):
            count[row] += 1
    return sum(c > 1 for c in count)


@wrong("my_shared_rows", "rest")
def remainder(a, n):
    return a % n


@wrong("my_shared_rows", "one_too_many")
def plus_one(a, n):
    return by_sets(a, n) + 1


@wrong("my_shared_rows", "bins_counted")
def bins_that_share(a, n):
    pairs = bins(a, n)
    return sum(
        any(s < stop and start < e for k, (s, e) in enumerate(pairs) if k != m)
        for m, (start, stop) in enumerate(pairs)
    )


@wrong("my_shared_rows", "value")
def all_rows(a, n):
    return sum(stop - start for start, stop in bins(a, n))


@wrong("my_shared_rows", "value")
def excess(a, n):
    return -a % n


@wrong("my_shared_rows", "exception", "value")
def float_range(a, n):
    return len(set(range(a / n)))


@wrong("my_shared_rows", "type")
def the_rows(a, n):
    return [row for row in range(a) if sum(s <= row < e for s, e in bins(a, n)) > 1]


# ------------------------------------------------------------------------------------- my_blind_pair


@right("my_blind_pair")
def ten_and_four():
    return 10, 4


@right("my_blind_pair")
def searched():
    for a in range(2, 40):
        for n in range(1, a + 1):
            size, stride = -(-a // n), a // n
            count = (a - size) // stride + 1
            if count == n and size + (count - 1) * stride < a:
                return [a, n]
    return None


@wrong("my_blind_pair", "value")
def fits():
    return 12, 4


@wrong("my_blind_pair", "value")
def more_windows():
    return 7, 4


@wrong("my_blind_pair", "value")
def exchanged():
    return 4, 10


@wrong("my_blind_pair", "value")
def only_rows():
    return 10


@wrong("my_blind_pair", "value")
def floats():
    return 10.0, 4.0


# ------------------------------------------------------------------------------------- my_group_mean


@right("my_group_mean")
def interleaved(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    return x.clamp(min=eps).pow(order).mean(1) ** (1 / order)


@right("my_group_mean")
def by_logs(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    s = torch.logsumexp(order * torch.log(torch.clamp(x, min=eps)), 1) - math.log(x.shape[1])
    return (s / order).exp()


@right("my_group_mean")
def group_by_group(x, p, eps):
    parts = x.clamp_min(eps).chunk(len(p), -1)
    return torch.cat([(part**q).mean(1) ** (1 / q) for part, q in zip(parts, p, strict=True)], -1)


@right("my_group_mean")
def unflattened(x, p, eps):
    z = torch.maximum(x, torch.tensor(eps)).unflatten(-1, (len(p), -1))
    return z.pow(p[:, None]).mean(1).pow(1 / p[:, None]).flatten(1)


@right("my_group_mean")
def scaled_first(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    x = torch.where(x < eps, eps, x)
    top = x.amax(1, keepdim=True).detach()
    return top[:, 0] * ((x / top) ** order).mean(1) ** (1 / order)


@wrong("my_group_mean", "interleaved_groups", "power_sum")
def as_given(x, p, eps):
    order = p.repeat(x.shape[-1] // len(p))
    return x.clamp(min=eps).pow(order).sum(1).pow(1 / order)


@wrong("my_group_mean", "interleaved_groups")
def repeat_left(x, p, eps):
    order = p.repeat(x.shape[-1] // len(p))
    return x.clamp(min=eps).pow(order).mean(1).pow(1 / order)


@wrong("my_group_mean", "power_sum")
def sum_left(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    return x.clamp(min=eps).pow(order).sum(1).pow(1 / order)


@wrong("my_group_mean", "without_root")
def no_root(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    return x.clamp(min=eps).pow(order).mean(1)


@wrong("my_group_mean", "absolute_values")
def absolute(x, p, eps):
    return interleaved(x.abs(), p, eps)


@wrong("my_group_mean", "eps_added")
def added(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    return (x.clamp(min=0) + eps).pow(order).mean(1).pow(1 / order)


@wrong("my_group_mean", "nan", "not_cut")
def negative_powers(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    return x.pow(order).mean(1).pow(1 / order)


@wrong("my_group_mean", "exception")
def not_spread(x, p, eps):
    return x.clamp(min=eps).pow(p).mean(1).pow(1 / p)


@wrong("my_group_mean", "over_channels", "shape")
def wrong_axis(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    return x.clamp(min=eps).pow(order).mean(-1)


@wrong("my_group_mean", "shape", "axis of length 1")
def axis_kept(x, p, eps):
    return interleaved(x, p, eps)[:, None]


@wrong("my_group_mean", "maximum")
def largest(x, p, eps):
    return x.clamp(min=eps).amax(1)


# --------------------------------------------------------------------------------- my_soft_pool_back


def windows(x, k):
    rows, cols = x.shape[2] // k, x.shape[3] // k
    return (
        x[:, :, : rows * k, : cols * k]
        .unflatten(3, (cols, k))
        .unflatten(2, (rows, k))
        .transpose(3, 4)
        .flatten(4)
    )


def unwindows(z, x, k):
    z = z.unflatten(4, (k, k)).transpose(3, 4).flatten(4).flatten(2, 3)
    return F.pad(z, (0, x.shape[3] - z.shape[3], 0, x.shape[2] - z.shape[2]))


@right("my_soft_pool_back")
def vectorised(dy, x, k):
    a = windows(x, k)
    w = a.softmax(-1)
    y = (w * a).sum(-1, keepdim=True)
    return unwindows(dy[..., None] * w * (1 + a - y), x, k)


@right("my_soft_pool_back")
def with_unfold(dy, x, k):
    b, c, i, j = x.shape
    rows, cols = i // k, j // k
    cut = x[:, :, : rows * k, : cols * k]
    a = F.unfold(cut, k, stride=k).view(b, c, k * k, rows * cols)
    w = a.softmax(2)
    y = (w * a).sum(2, keepdim=True)
    g = dy.reshape(b, c, 1, -1) * w * (1 + a - y)
    folded = F.fold(g.reshape(b, -1, rows * cols), (rows * k, cols * k), k, stride=k)
    return F.pad(folded, (0, j - cols * k, 0, i - rows * k))


@right("my_soft_pool_back")
def by_jacobian(dy, x, k):
    a = windows(x, k)
    w = a.softmax(-1)
    direct = w
    through = torch.einsum("...n,...m->...nm", w, w)
    slope = torch.diag_embed(w) - through
    return unwindows(dy[..., None] * (direct + (slope @ a[..., None])[..., 0]), x, k)


@right("my_soft_pool_back")
def place_by_place(dy, x, k):
    dx = torch.zeros_like(x)
    for r in range(dy.shape[2]):
        for c in range(dy.shape[3]):
            a = x[:, :, r * k : r * k + k, c * k : c * k + k]
            e = (a - a.amax((2, 3), keepdim=True)).exp()
            w = e / e.sum((2, 3), keepdim=True)
            y = (w * a).sum((2, 3), keepdim=True)
            dx[:, :, r * k : r * k + k, c * k : c * k + k] = dy[:, :, r, c, None, None] * w * (1 + a - y)
    return dx


@right("my_soft_pool_back")
def two_parts(dy, x, k):
    a = windows(x, k)
    w = torch.softmax(a, -1)
    mean = torch.sum(w * a, -1)
    return unwindows(w * dy.unsqueeze(-1) + w * (a - mean.unsqueeze(-1)) * dy.unsqueeze(-1), x, k)


@wrong("my_soft_pool_back", "weights_only")
def weights(dy, x, k):
    return unwindows(dy[..., None] * windows(x, k).softmax(-1), x, k)


@wrong("my_soft_pool_back", "without_one")
def no_one(dy, x, k):
    a = windows(x, k)
    w = a.softmax(-1)
    return unwindows(dy[..., None] * w * (a - (w * a).sum(-1, keepdim=True)), x, k)


@wrong("my_soft_pool_back", "sign")
def wrong_sign(dy, x, k):
    a = windows(x, k)
    w = a.softmax(-1)
    return unwindows(dy[..., None] * w * (1 - a + (w * a).sum(-1, keepdim=True)), x, k)


@wrong("my_soft_pool_back", "nan", "overflow")
def plain_exponential(dy, x, k):
    a = windows(x, k)
    w = a.exp() / a.exp().sum(-1, keepdim=True)
    return unwindows(dy[..., None] * w * (1 + a - (w * a).sum(-1, keepdim=True)), x, k)


@wrong("my_soft_pool_back", "no_dy", "ignored dy")
def dy_forgotten(dy, x, k):
    return vectorised(torch.ones_like(dy), x, k)


@wrong("my_soft_pool_back", "rule", "without autograd")
def by_autograd(dy, x, k):
    def pool(x):
        a = windows(x, k)
        return (a.softmax(-1) * a).sum(-1)

    return torch.func.vjp(pool, x)[1](dy)[0]


@wrong("my_soft_pool_back", "exception", "shape")
def rest_not_filled(dy, x, k):
    return vectorised(dy, x, k)[:, :, : dy.shape[2] * k, : dy.shape[3] * k]


@wrong("my_soft_pool_back", "over_image", "value")
def image_softmax(dy, x, k):
    a = windows(x, k)
    w = a.flatten(2).softmax(-1).view_as(a)
    return unwindows(dy[..., None] * w * (1 + a - (w * a).sum(-1, keepdim=True)), x, k)


@wrong("my_soft_pool_back", "sign", "value", "negative")
def negated(dy, x, k):
    return -vectorised(dy, x, k)


@wrong("my_soft_pool_back", "shape")
def windows_returned(dy, x, k):
    a = windows(x, k)
    w = a.softmax(-1)
    return dy[..., None] * w * (1 + a - (w * a).sum(-1, keepdim=True))


@wrong("my_soft_pool_back", "no_dy", "weights_only")
def only_the_weights(dy, x, k):
    return unwindows(windows(x, k).softmax(-1), x, k)


# --------------------------------------------------------------- my_spectrum_after, my_spectrum_sampled


@right("my_spectrum_after")
def repeated(spectrum, s):
    return spectrum.repeat(*[1] * (spectrum.ndim - 2), s, s)


@right("my_spectrum_after")
def concatenated(spectrum, s):
    wide = torch.cat([spectrum] * s, -1)
    return torch.cat([wide] * s, -2)


@right("my_spectrum_after")
def tiled(spectrum, s):
    return torch.tile(spectrum, (s, s))


@right("my_spectrum_after")
def by_modulo(spectrum, s):
    rows, cols = spectrum.shape[-2:]
    return spectrum[..., torch.arange(s * rows) % rows, :][..., torch.arange(s * cols) % cols]


@right("my_spectrum_after")
def expanded(spectrum, s):
    rows, cols = spectrum.shape[-2:]
    lead = spectrum.shape[:-2]
    big = spectrum[..., None, :, None, :].expand(*lead, s, rows, s, cols)
    return big.reshape(*lead, s * rows, s * cols)


@wrong("my_spectrum_after", "stretched")
def interleaved_copies(spectrum, s):
    return spectrum.repeat_interleave(s, -1).repeat_interleave(s, -2)


@wrong("my_spectrum_after", "divided")
def averaged(spectrum, s):
    return repeated(spectrum, s) / s**2


@wrong("my_spectrum_after", "multiplied")
def grown(spectrum, s):
    return repeated(spectrum, s) * s**2


@wrong("my_spectrum_after", "padded")
def zeros_behind(spectrum, s):
    rows, cols = spectrum.shape[-2:]
    return F.pad(spectrum, (0, (s - 1) * cols, 0, (s - 1) * rows))


@wrong("my_spectrum_after", "mirrored")
def reflected(spectrum, s):
    tall = torch.cat([spectrum] + [spectrum.flip(-2)] * (s - 1), -2)
    return torch.cat([tall] + [tall.flip(-1)] * (s - 1), -1)


@wrong("my_spectrum_after", "shape")
def rows_only(spectrum, s):
    return torch.cat([spectrum] * s, -2)


@wrong("my_spectrum_after", "exception", "shape")
def for_two_axes(spectrum, s):
    return spectrum.repeat(s, s)


@wrong("my_spectrum_after", "dtype")
def magnitudes(spectrum, s):
    return repeated(spectrum, s).abs()


@wrong("my_spectrum_after", "rule", "shape")
def transformed(spectrum, s):
    x = torch.fft.ifft2(spectrum)
    y = torch.zeros(*x.shape[:-2], s * x.shape[-2], s * x.shape[-1], dtype=x.dtype)
    y[..., ::s, ::s] = x
    return torch.fft.fft2(y)


@wrong("my_spectrum_after", "how s enters")
def scaled_once(spectrum, s):
    return repeated(spectrum, s) * s


@wrong("my_spectrum_after", "value")
def conjugated(spectrum, s):
    return repeated(spectrum, s).conj()


@right("my_spectrum_sampled")
def folded(spectrum, s):
    rows, cols = (n // s for n in spectrum.shape[-2:])
    return spectrum.unflatten(-1, (s, cols)).mean(-2).unflatten(-2, (s, rows)).mean(-3)


@right("my_spectrum_sampled")
def by_chunks(spectrum, s):
    half = sum(spectrum.chunk(s, -1)) / s
    return sum(half.chunk(s, -2)) / s


@right("my_spectrum_sampled")
def by_blocks(spectrum, s):
    rows, cols = (n // s for n in spectrum.shape[-2:])
    total = 0
    for a in range(s):
        for b in range(s):
            total = total + spectrum[..., a * rows : (a + 1) * rows, b * cols : (b + 1) * cols]
    return total / s**2


@right("my_spectrum_sampled")
def by_einsum(spectrum, s):
    rows, cols = (n // s for n in spectrum.shape[-2:])
    blocks = spectrum.unflatten(-1, (s, cols)).unflatten(-3, (s, rows))
    return torch.einsum("...aibj->...ij", blocks) / s / s


@right("my_spectrum_sampled")
def by_matrices(spectrum, s):
    left, across = (torch.eye(n // s, dtype=spectrum.dtype).repeat(1, s) / s for n in spectrum.shape[-2:])
    return left @ spectrum @ across.mT


@wrong("my_spectrum_sampled", "cut_off")
def low_frequencies(spectrum, s):
    return spectrum[..., : spectrum.shape[-2] // s, : spectrum.shape[-1] // s]


@wrong("my_spectrum_sampled", "summed")
def not_averaged(spectrum, s):
    return folded(spectrum, s) * s**2


@wrong("my_spectrum_sampled", "every_sth")
def sampled_too(spectrum, s):
    return spectrum[..., ::s, ::s]


@wrong("my_spectrum_sampled", "interleaved")
def neighbours(spectrum, s):
    rows, cols = (n // s for n in spectrum.shape[-2:])
    return spectrum.unflatten(-1, (cols, s)).mean(-1).unflatten(-2, (rows, s)).mean(-2)


@wrong("my_spectrum_sampled", "root")
def divided_once(spectrum, s):
    return folded(spectrum, s) * s


@wrong("my_spectrum_sampled", "shape")
def one_axis(spectrum, s):
    return spectrum.unflatten(-1, (s, -1)).mean(-2)


@wrong("my_spectrum_sampled", "rule", "shape")
def by_transform(spectrum, s):
    return torch.fft.fft2(torch.fft.ifft2(spectrum)[..., ::s, ::s])


@wrong("my_spectrum_sampled", "dtype")
def real_part(spectrum, s):
    return folded(spectrum, s).real


@wrong("my_spectrum_sampled", "value", "factor", "cut_off")
def low_and_scaled(spectrum, s):
    return low_frequencies(spectrum, s) / s**2


@wrong("my_spectrum_sampled", "exception", "shape")
def wrong_blocks(spectrum, s):
    return spectrum.view(s, s, -1).mean((0, 1))


# ---------------------------------------------------------------------- my_masked_mean, my_masked_pool


def counts(x, lengths):
    return torch.arange(x.shape[1]) < lengths[:, None]


@right("my_masked_mean")
def masked(x, lengths):
    return (x * counts(x, lengths).unsqueeze(-1)).sum(1) / lengths.unsqueeze(-1)


@right("my_masked_mean")
def sequence_by_sequence(x, lengths):
    return torch.stack([x[n, : lengths[n]].mean(0) for n in range(len(x))])


@right("my_masked_mean")
def cumulated(x, lengths):
    return x.cumsum(1)[torch.arange(len(x)), lengths - 1] / lengths[:, None]


@right("my_masked_mean")
def with_where(x, lengths):
    return torch.where(counts(x, lengths)[..., None], x, 0).sum(1) / lengths[:, None].to(x)


@right("my_masked_mean")
def by_weights(x, lengths):
    weights = counts(x, lengths).to(x.dtype)
    weights = weights / weights.sum(1, keepdim=True)
    return torch.bmm(weights[:, None], x)[:, 0]


@wrong("my_masked_mean", "no_mask", "ignored lengths")
def plain(x, lengths):
    return x.mean(1)


@wrong("my_masked_mean", "divided_by_all")
def by_all_places(x, lengths):
    return (x * counts(x, lengths)[..., None]).mean(1)


@wrong("my_masked_mean", "not_divided")
def sum_only(x, lengths):
    return (x * counts(x, lengths)[..., None]).sum(1)


@wrong("my_masked_mean", "one_more")
def length_included(x, lengths):
    keep = torch.arange(x.shape[1]) <= lengths[:, None]
    return (x * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)


@wrong("my_masked_mean", "last_token")
def last(x, lengths):
    return x[torch.arange(len(x)), lengths - 1]


@wrong("my_masked_mean", "exception")
def no_axis(x, lengths):
    return (x * counts(x, lengths)).sum(1) / lengths


@wrong("my_masked_mean", "value", "no_mask")
def all_over_lengths(x, lengths):
    return x.sum(1) / lengths[:, None]


@wrong("my_masked_mean", "shape", "axis of length 1")
def axis_kept_mean(x, lengths):
    return masked(x, lengths)[:, None]


@wrong("my_masked_mean", "in place")
def zeroed_in_place(x, lengths):
    x[~counts(x, lengths)] = 0
    return x.sum(1) / lengths[:, None]


@wrong("my_masked_mean", "nan")
def with_nan(x, lengths):
    return x.masked_fill(~counts(x, lengths)[..., None], torch.nan).mean(1)


@wrong("my_masked_mean", "value", "no_mask", "ignored lengths")
def mean_of_lengths(x, lengths):
    return x.sum(1) / lengths.double().mean()


@right("my_masked_pool")
def attended(q, x, lengths):
    scores = (x @ q / x.shape[-1] ** 0.5).masked_fill(~counts(x, lengths), -torch.inf)
    return (scores.softmax(-1)[..., None] * x).sum(1)


@right("my_masked_pool")
def one_by_one(q, x, lengths):
    out = []
    for row, n in zip(x, lengths.tolist(), strict=True):
        weights = torch.softmax(row[:n] @ q / math.sqrt(len(q)), 0)
        out.append(weights @ row[:n])
    return torch.stack(out)


@right("my_masked_pool")
def fused(q, x, lengths):
    query = q.expand(len(x), 1, -1)
    return F.scaled_dot_product_attention(query, x, x, attn_mask=counts(x, lengths)[:, None])[:, 0]


@right("my_masked_pool")
def renormalised(q, x, lengths):
    scores = torch.einsum("btd,d->bt", x, q) * len(q) ** -0.5
    keep = counts(x, lengths)
    top = scores.masked_fill(~keep, -torch.inf).amax(1, keepdim=True)
    e = torch.where(keep, (scores - top).clamp(max=0), -torch.inf).exp()
    return torch.einsum("bt,btd->bd", e / e.sum(1, keepdim=True), x)


@right("my_masked_pool")
def large_negative(q, x, lengths):
    scores = x @ q / math.sqrt(x.size(-1))
    scores = torch.where(counts(x, lengths), scores, -1e30)
    return torch.bmm(F.softmax(scores, dim=1).unsqueeze(1), x).squeeze(1)


@wrong("my_masked_pool", "unscaled")
def no_root_of_d(q, x, lengths):
    scores = (x @ q).masked_fill(~counts(x, lengths), -torch.inf)
    return (scores.softmax(-1)[..., None] * x).sum(1)


@wrong("my_masked_pool", "divided_by_d")
def by_d(q, x, lengths):
    scores = (x @ q / len(q)).masked_fill(~counts(x, lengths), -torch.inf)
    return (scores.softmax(-1)[..., None] * x).sum(1)


@wrong("my_masked_pool", "no_mask", "ignored lengths")
def unmasked(q, x, lengths):
    return ((x @ q / len(q) ** 0.5).softmax(-1)[..., None] * x).sum(1)


@wrong("my_masked_pool", "mask_after")
def late(q, x, lengths):
    weights = (x @ q / len(q) ** 0.5).softmax(-1) * counts(x, lengths)
    return (weights[..., None] * x).sum(1)


@wrong("my_masked_pool", "zero_scores")
def multiplied_by_mask(q, x, lengths):
    scores = (x @ q / len(q) ** 0.5) * counts(x, lengths)
    return (scores.softmax(-1)[..., None] * x).sum(1)


@wrong("my_masked_pool", "mean", "ignored q")
def just_the_mean(q, x, lengths):
    return masked(x, lengths)


@wrong("my_masked_pool", "hard")
def best_token(q, x, lengths):
    scores = (x @ q).masked_fill(~counts(x, lengths), -torch.inf)
    return x[torch.arange(len(x)), scores.argmax(1)]


@wrong("my_masked_pool", "one_more")
def one_too_many(q, x, lengths):
    keep = torch.arange(x.shape[1]) <= lengths[:, None]
    scores = (x @ q / len(q) ** 0.5).masked_fill(~keep, -torch.inf)
    return (scores.softmax(-1)[..., None] * x).sum(1)


@wrong("my_masked_pool", "shape", "over_batch")
def weights_returned(q, x, lengths):
    return (x @ q / len(q) ** 0.5).masked_fill(~counts(x, lengths), -torch.inf).softmax(-1)


@wrong("my_masked_pool", "nan", "over_batch")
def softmax_over_batch(q, x, lengths):
    scores = (x @ q / len(q) ** 0.5).masked_fill(~counts(x, lengths), -torch.inf)
    return (scores.softmax(0)[..., None] * x).sum(1)


@wrong("my_masked_pool", "unscaled", "mask_after")
def both_wrong(q, x, lengths):
    weights = (x @ q).softmax(-1) * counts(x, lengths)
    return (weights[..., None] * x).sum(1)


# ---------------------------------------------------------------------------------------- my_needles


@right("my_needles")
def on_a_copy(noise, where, label):
    x, n = noise.clone(), torch.arange(len(noise))
    x[n, where, :5] = 0.0
    x[n, where, 0] = 3.0
    x[n, where, label + 1] = 3.0
    return x


@right("my_needles")
def looped(noise, where, label):
    x = noise.clone()
    for n in range(len(x)):
        row = torch.zeros(5)
        row[0] = row[1 + label[n]] = 3
        x[n, where[n], :5] = row
    return x


@right("my_needles")
def with_one_hot(noise, where, label):
    x = noise.clone()
    head = torch.cat([torch.ones(len(x), 1), F.one_hot(label, 4)], 1) * 3.0
    x[torch.arange(len(x)), where, :5] = head.to(x)
    return x


@right("my_needles")
def blended(noise, where, label):
    at = F.one_hot(where, noise.shape[1])[..., None].to(noise)
    needle = torch.cat([torch.full((len(noise), 1), 3.0), 3.0 * F.one_hot(label, 4)], 1)
    needle = torch.cat([needle[:, None].expand(-1, noise.shape[1], -1), noise[..., 5:]], -1)
    return at * needle + (1 - at) * noise


@right("my_needles")
def scattered(noise, where, label):
    n = torch.arange(len(noise))
    row = noise[n, where].clone()
    row[:, 1:5] = 3 * F.one_hot(label, 4).to(row)
    row[:, 0] = 3
    return noise.index_put((n, where), row)


@wrong("my_needles", "in place")
def noise_overwritten(noise, where, label):
    n = torch.arange(len(noise))
    noise[n, where, 0] = 3.0
    noise[n, where, 1:5] = 3.0 * F.one_hot(label, 4).to(noise)
    return noise


@wrong("my_needles", "small_class")
def ones(noise, where, label):
    x, n = noise.clone(), torch.arange(len(noise))
    x[n, where, 0] = 3.0
    x[n, where, 1:5] = F.one_hot(label, 4).to(x)
    return x


@wrong("my_needles", "no_mark", "value")
def mark_forgotten(noise, where, label):
    x, n = noise.clone(), torch.arange(len(noise))
    x[n, where, 0] = 0.0
    x[n, where, 1:5] = 3.0 * F.one_hot(label, 4).to(x)
    return x


@wrong("my_needles", "everywhere")
def all_tokens(noise, where, label):
    x = noise.clone()
    x[:, where, 0] = 3.0
    x[:, :, 0] = 3.0
    x[:, :, 1:5] = 3.0 * F.one_hot(label, 4).to(x)[:, None]
    return x


@wrong("my_needles", "value", "part of the gradient")
def added_to_noise(noise, where, label):
    x, n = noise.clone(), torch.arange(len(noise))
    x[n, where, 0] += 3.0
    x[n, where, 1:5] += 3.0 * F.one_hot(label, 4).to(x)
    return x


@wrong("my_needles", "shifted")
def class_from_zero(noise, where, label):
    x, n = noise.clone(), torch.arange(len(noise))
    x[n, where, :5] = 0.0
    x[n, where, 0] = 3.0
    x[n, where, label] = 3.0
    return x


@wrong("my_needles", "first_token")
def in_front(noise, where, label):
    return on_a_copy(noise, torch.zeros_like(where), label)


@wrong("my_needles", "exception", "value", "everywhere")
def no_rows(noise, where, label):
    x = noise.clone()
    x[:, where, 0] = 3.0
    x[:, where, 1:5] = 3.0 * F.one_hot(label, 4).to(x)
    return x


@wrong("my_needles", "rest_cleared")
def wholly_replaced(noise, where, label):
    x, n = noise.clone(), torch.arange(len(noise))
    x[n, where] = 0.0
    x[n, where, 0] = 3.0
    x[n, where, label + 1] = 3.0
    return x


@wrong("my_needles", "no gradient", "part of the gradient")
def detached(noise, where, label):
    return on_a_copy(noise.detach(), where, label)
