"""Answers to the exercises on token mixers."""

import math

import torch
from torch.nn import functional as F

from tests.exercises.corpus import Corpus

corpus = Corpus("layers/mixing")
right, wrong = corpus.right, corpus.wrong


# ----------------------------------------------------------------------------------------- my_saving


@right("my_saving")
def cancelled(h, w, r, e):
    return (h * w) ** 2 / (r**2 * (h**2 + w**2))


@right("my_saving")
def counted(h, w, r, e):
    def mlp(n):
        return n * (e * n) + (e * n) * n

    return mlp(h * w) / (mlp(r * h) + mlp(r * w))


@right("my_saving")
def by_layers(h, w, r, e):
    sizes = [(h * w, e * h * w)], [(r * h, e * r * h), (r * w, e * r * w)]
    full, raft = (sum(2 * a * b for a, b in pairs) for pairs in sizes)
    return full / raft


@right("my_saving")
def by_meta(h, w, r, e):
    def entries(n):
        return 2 * torch.empty(e * n, n, device="meta").numel()

    return entries(h * w) / (entries(h * r) + entries(w * r))


@right("my_saving")
def as_tensor(h, w, r, e):
    return torch.tensor((h * w) ** 2.0, dtype=torch.float64) / (r * r * (h * h + w * w))


@wrong("my_saving", "without_rafts", "ignored r")
def no_rafts(h, w, r, e):
    return (h * w) ** 2 / (h**2 + w**2)


@wrong("my_saving", "r_not_squared")
def r_once(h, w, r, e):
    return (h * w) ** 2 / (r * (h**2 + w**2))


@wrong("my_saving", "upside_down", "inverse")
def other_way(h, w, r, e):
    return r**2 * (h**2 + w**2) / (h * w) ** 2


@wrong("my_saving", "one_step")
def vertical_only(h, w, r, e):
    return (h * w) ** 2 / (r * h) ** 2


@wrong("my_saving", "pixels_not_squared")
def linear_count(h, w, r, e):
    return h * w / (r**2 * (h**2 + w**2))


@wrong("my_saving", "with_expansion")
def e_left(h, w, r, e):
    return e * (h * w) ** 2 / (r**2 * (h**2 + w**2))


@wrong("my_saving", "one_side")
def sum_of_sides(h, w, r, e):
    return (h + w) ** 2 / (r**2 * (h**2 + w**2))


@wrong("my_saving", "value")
def difference(h, w, r, e):
    return 2 * e * (h * w) ** 2 - 2 * e * r**2 * (h**2 + w**2)


@wrong("my_saving", "value")
def rounded(h, w, r, e):
    return (h * w) ** 2 // (r**2 * (h**2 + w**2))


@wrong("my_saving", "upside_down", "without_rafts")
def two_slips(h, w, r, e):
    return (h**2 + w**2) / (h * w) ** 2


@wrong("my_saving", "horizontal_like_vertical")
def twice_vertical(h, w, r, e):
    return (h * w) ** 2 / (2 * (r * h) ** 2)


# ------------------------------------------------------------------- my_token_matrix, my_channel_matrix


def columns(apply, n):
    return torch.stack([apply(e) for e in torch.eye(n)], 1)


@right("my_token_matrix")
def token_kron(w1, w2, channels):
    return torch.kron(w2 @ w1, torch.eye(channels))


@right("my_token_matrix")
def token_columns(w1, w2, channels):
    tokens = w1.shape[1]
    return columns(lambda e: (w2 @ (w1 @ e.view(tokens, channels))).flatten(), tokens * channels)


@right("my_token_matrix")
def token_einsum(w1, w2, channels):
    m = torch.einsum("sh,ht->st", w2, w1)
    return torch.einsum("st,kl->sktl", m, torch.eye(channels)).flatten(2).flatten(0, 1)


@right("my_token_matrix")
def token_loop(w1, w2, channels):
    m, n = w2 @ w1, w1.shape[1]
    out = torch.zeros(n * channels, n * channels)
    for s in range(n):
        for t in range(n):
            for k in range(channels):
                out[s * channels + k, t * channels + k] = m[s, t]
    return out


@right("my_token_matrix")
def token_two_krons(w1, w2, channels):
    eye = torch.eye(channels)
    return torch.kron(w2, eye) @ torch.kron(w1, eye)


@right("my_channel_matrix")
def channel_kron(w1, w2, tokens):
    return torch.kron(torch.eye(tokens), w2 @ w1)


@right("my_channel_matrix")
def channel_blocks(w1, w2, tokens):
    return torch.block_diag(*[w2 @ w1] * tokens)


@right("my_channel_matrix")
def channel_columns(w1, w2, tokens):
    c = w1.shape[1]
    return columns(lambda e: (e.view(tokens, c) @ w1.T @ w2.T).flatten(), tokens * c)


@right("my_channel_matrix")
def channel_slices(w1, w2, tokens):
    c = w1.shape[1]
    out = torch.zeros(tokens * c, tokens * c)
    for s in range(tokens):
        out[s * c : (s + 1) * c, s * c : (s + 1) * c] = w2 @ w1
    return out


@right("my_channel_matrix")
def channel_single(w1, w2, tokens):
    return torch.kron(torch.eye(tokens), w2.float() @ w1.float())


@wrong("my_token_matrix", "other_layout")
def token_other(w1, w2, channels):
    return torch.kron(torch.eye(channels), w2 @ w1)


@wrong("my_token_matrix", "transposed")
def token_transposed(w1, w2, channels):
    return torch.kron((w2 @ w1).T.contiguous(), torch.eye(channels))


@wrong("my_token_matrix", "ones_factor")
def token_ones(w1, w2, channels):
    return torch.kron(w2 @ w1, torch.ones(channels, channels))


@wrong("my_token_matrix", "wrong_order", "shape")
def token_order(w1, w2, channels):
    return torch.kron(w1 @ w2, torch.eye(channels))


@wrong("my_token_matrix", "one_channel", "shape")
def token_one(w1, w2, channels):
    return w2 @ w1


@wrong("my_token_matrix", "other_layout", "transposed")
def token_both(w1, w2, channels):
    return torch.kron(torch.eye(channels), (w2 @ w1).mT.contiguous())


@wrong("my_token_matrix", "sign")
def token_negative(w1, w2, channels):
    return -torch.kron(w2 @ w1, torch.eye(channels))


@wrong("my_token_matrix", "no gradient")
def token_detached(w1, w2, channels):
    return torch.kron((w2 @ w1).detach(), torch.eye(channels))


@wrong("my_token_matrix", "exception")
def token_elementwise(w1, w2, channels):
    return torch.kron(w2 * w1, torch.eye(channels)) @ torch.zeros(1, 1, 1)


@wrong("my_token_matrix", "value", "how w1 enters", "factor", "ignored w1", "shape")
def token_w2_only(w1, w2, channels):
    return torch.kron(w2 @ w2.T, torch.eye(channels))


@wrong("my_token_matrix", "first_only")
def token_w1_only(w1, w2, channels):
    return torch.kron(w1.T @ w1, torch.eye(channels))


@wrong("my_channel_matrix", "other_layout")
def channel_other(w1, w2, tokens):
    return torch.kron(w2 @ w1, torch.eye(tokens))


@wrong("my_channel_matrix", "transposed")
def channel_transposed(w1, w2, tokens):
    return torch.kron(torch.eye(tokens), w1.T @ w2.T)


@wrong("my_channel_matrix", "ones_factor")
def channel_ones(w1, w2, tokens):
    return torch.kron(torch.ones(tokens, tokens), w2 @ w1)


@wrong("my_channel_matrix", "wrong_order", "shape")
def channel_order(w1, w2, tokens):
    return torch.kron(torch.eye(tokens), w1 @ w2)


@wrong("my_channel_matrix", "one_token", "shape")
def channel_one(w1, w2, tokens):
    return w2 @ w1


@wrong("my_channel_matrix", "shape")
def channel_repeated(w1, w2, tokens):
    return (w2 @ w1).repeat(tokens, 1)


@wrong("my_channel_matrix", "ones_factor")
def channel_tiled(w1, w2, tokens):
    return (w2 @ w1).repeat(tokens, tokens)


@wrong("my_channel_matrix", "factor")
def channel_doubled(w1, w2, tokens):
    return 2 * torch.kron(torch.eye(tokens), w2 @ w1)


@wrong("my_channel_matrix", "other_layout", "transposed")
def channel_both(w1, w2, tokens):
    return torch.kron((w2 @ w1).T.contiguous(), torch.eye(tokens))


@wrong("my_channel_matrix", "exception")
def channel_axis(w1, w2, tokens):
    return torch.block_diag((w2 @ w1) * tokens, nothing=0)


# ----------------------------------------------------------------------------------------- my_unraft


@right("my_unraft")
def permuted(y, h, w, r):
    b = y.shape[0]
    o = y.shape[1] // w
    return y.view(b, o, w, r, h).permute(0, 4, 2, 3, 1).reshape(b, h * w, r * o)


@right("my_unraft")
def transposed_twice(y, h, w, r):
    y = y.unflatten(2, (r, h)).unflatten(1, (-1, w))  # b o w r h
    return y.movedim(4, 1).movedim(2, 4).flatten(3).flatten(1, 2)


@right("my_unraft")
def by_einsum(y, h, w, r):
    y = y.reshape(len(y), -1, w, r, h)
    return torch.einsum("bowrh->bhwro", y).flatten(3).flatten(1, 2)


@right("my_unraft")
def by_index(y, h, w, r):
    b, o = len(y), y.shape[1] // w
    i, j, place, k = torch.meshgrid(*(torch.arange(n) for n in (h, w, r, o)), indexing="ij")
    return y[:, k * w + j, place * h + i].reshape(b, h * w, r * o)


@right("my_unraft")
def raft_by_raft(y, h, w, r):
    o = y.shape[1] // w
    parts = [y[:, k * w : (k + 1) * w].unflatten(2, (r, h)).permute(0, 3, 1, 2) for k in range(o)]  # b h w r
    return torch.stack(parts, -1).flatten(3).flatten(1, 2)


@wrong("my_unraft", "reshape_alone")
def only_reshaped(y, h, w, r):
    return y.reshape(len(y), h * w, -1)


@wrong("my_unraft", "rafts_inside")
def place_inside(y, h, w, r):
    b, o = len(y), y.shape[1] // w
    return y.view(b, o, w, r, h).permute(0, 4, 2, 1, 3).reshape(b, h * w, r * o)


@wrong("my_unraft", "rows_inside")
def places_fast(y, h, w, r):
    b, o = len(y), y.shape[1] // w
    return y.view(b, o, w, h, r).permute(0, 3, 2, 4, 1).reshape(b, h * w, r * o)


@wrong("my_unraft", "columns_outside")
def columns_slow(y, h, w, r):
    b, o = len(y), y.shape[1] // w
    return y.view(b, w, o, r, h).permute(0, 4, 1, 3, 2).reshape(b, h * w, r * o)


@wrong("my_unraft", "grid_turned")
def column_by_column(y, h, w, r):
    b, o = len(y), y.shape[1] // w
    return y.view(b, o, w, r, h).permute(0, 2, 4, 3, 1).reshape(b, h * w, r * o)


@wrong("my_unraft", "shape")
def axes_left(y, h, w, r):
    return y.view(len(y), -1, w, r, h).permute(0, 4, 2, 3, 1)


@wrong("my_unraft", "exception", "shape")
def wrong_split(y, h, w, r):
    b = len(y)
    return y.view(b, h, w, r, -1).permute(0, 4, 2, 3, 1).reshape(b, h * w, -1).view(b, 7, -1)


@wrong("my_unraft", "rafts_inside", "grid_turned")
def two_axes(y, h, w, r):
    b, o = len(y), y.shape[1] // w
    return y.view(b, o, w, r, h).permute(0, 2, 4, 1, 3).reshape(b, h * w, r * o)


@wrong("my_unraft", "axes in another order", "shape")
def channels_first(y, h, w, r):
    return permuted(y, h, w, r).mT


@wrong("my_unraft", "shape", "exception")
def forward_again(y, h, w, r):
    b = len(y)
    o = y.shape[2] // r
    return y.reshape(b, -1, w, r, o).permute(0, 4, 2, 3, 1).reshape(b, o * w, -1)[:, :1]


# ------------------------------------------------------------------------------------- my_shift_back


def moved(x, down, across):
    """Read at (i + down, j + across), zeros outside."""
    rows, cols = x.shape[-2:]
    p, q = abs(down), abs(across)
    padded = F.pad(x, (q, q, p, p))
    return padded[..., p + down : p + down + rows, q + across : q + across + cols]


def channelwise(dy, offsets, sign=-1):
    return torch.stack([moved(dy[:, c], sign * a, sign * b) for c, (a, b) in enumerate(offsets.tolist())], 1)


@right("my_shift_back")
def opposite(dy, offsets):
    return channelwise(dy, offsets)


@right("my_shift_back")
def scattered(dy, offsets):
    rows, cols = dy.shape[-2:]
    dx = torch.zeros_like(dy)
    for c in range(dy.shape[1]):
        for i in range(rows):
            for j in range(cols):
                a, b = i + int(offsets[c, 0]), j + int(offsets[c, 1])
                if 0 <= a < rows and 0 <= b < cols:
                    dx[:, c, a, b] += dy[:, c, i, j]
    return dx


@right("my_shift_back")
def gathered(dy, offsets):
    rows, cols = dy.shape[-2:]
    i = torch.arange(rows)[:, None] - offsets[:, 0, None, None]
    j = torch.arange(cols) - offsets[:, 1, None, None]
    inside = (i >= 0) & (i < rows) & (j >= 0) & (j < cols)
    index = (i.clamp(0, rows - 1) * cols + j.clamp(0, cols - 1)).flatten(1)
    return dy.flatten(2).gather(2, index.expand(len(dy), -1, -1)).reshape(dy.shape) * inside


@right("my_shift_back")
def rolled_and_cut(dy, offsets):
    out = []
    for c, (a, b) in enumerate(offsets.tolist()):
        rows, cols = dy.shape[-2:]
        i, j = torch.arange(rows)[:, None] - a, torch.arange(cols) - b
        keep = (i >= 0) & (i < rows) & (j >= 0) & (j < cols)
        out.append(dy[:, c].roll((a, b), (1, 2)) * keep)
    return torch.stack(out, 1)


@right("my_shift_back")
def single_precision(dy, offsets):
    return channelwise(dy.float(), offsets)


@wrong("my_shift_back", "same_direction")
def forwards(dy, offsets):
    return channelwise(dy, offsets, sign=1)


@wrong("my_shift_back", "around_the_border")
def wrapped(dy, offsets):
    return torch.stack([dy[:, c].roll((a, b), (1, 2)) for c, (a, b) in enumerate(offsets.tolist())], 1)


@wrong("my_shift_back", "swapped")
def columns_first(dy, offsets):
    return channelwise(dy, offsets.flip(1))


@wrong("my_shift_back", "first_for_all")
def one_offset(dy, offsets):
    return channelwise(dy, offsets[:1].expand_as(offsets))


@wrong("my_shift_back", "rule", "without autograd")
def autograd(dy, offsets):
    return torch.func.vjp(lambda x: channelwise(x, offsets, sign=1), torch.zeros_like(dy))[1](dy)[0]


@wrong("my_shift_back", "exception", "shape")
def too_large(dy, offsets):
    out = []
    for c, (a, b) in enumerate(offsets.tolist()):
        piece = dy[:, c, max(0, -a) :, max(0, -b) :]
        out.append(F.pad(piece, (max(0, b), 0, max(0, a), 0)))
    return torch.stack(out, 1)


@wrong("my_shift_back", "exception", "around_the_border", "value")
def python_indices(dy, offsets):
    dx = torch.zeros_like(dy)
    rows, cols = dy.shape[-2:]
    for c, (a, b) in enumerate(offsets.tolist()):
        for i in range(rows):
            for j in range(cols):
                if i + a < rows and j + b < cols:
                    dx[:, c, i + a, j + b] += dy[:, c, i, j]
    return dx


@wrong("my_shift_back", "rows_only")
def rows_alone(dy, offsets):
    return channelwise(dy, offsets * torch.tensor([1, 0]))


@wrong("my_shift_back", "sign")
def negative(dy, offsets):
    return -channelwise(dy, offsets)


@wrong("my_shift_back", "ignored offsets", "value")
def not_moved(dy, offsets):
    return dy.clone()


@wrong("my_shift_back", "same_direction", "swapped")
def both(dy, offsets):
    return channelwise(dy, offsets.flip(1), sign=1)


# ------------------------------------------------------------------------------------------ my_block


def halves(x, w1, w2, norm, *, count=False, second=True, start="y", act=F.gelu):
    z = norm(x)
    y = x + F.avg_pool2d(z, 3, 1, 1, count_include_pad=count) - z
    inside = y if start == "y" else x
    inside = norm(inside) if second else inside
    return y + torch.einsum("ch,bhij->bcij", w2, act(torch.einsum("hc,bcij->bhij", w1, inside)))


@right("my_block")
def mended(x, w1, w2, norm):
    return halves(x, w1, w2, norm)


@right("my_block")
def with_convolutions(x, w1, w2, norm):
    z = norm(x)
    y = x + F.avg_pool2d(z, 3, stride=1, padding=1, count_include_pad=False) - z
    return y + F.conv2d(F.gelu(F.conv2d(norm(y), w1[..., None, None])), w2[..., None, None])


@right("my_block")
def divided_by_ones(x, w1, w2, norm):
    z = norm(x)
    total = F.avg_pool2d(z, 3, 1, 1) / F.avg_pool2d(torch.ones_like(z), 3, 1, 1)
    y = x + (total - z)
    h = F.gelu(norm(y).movedim(1, -1) @ w1.mT)
    return y + (h @ w2.mT).movedim(-1, 1)


@right("my_block")
def pixel_by_pixel(x, w1, w2, norm):
    z, (rows, cols) = norm(x), x.shape[2:]
    mean = torch.stack(
        [
            torch.stack(
                [z[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean((2, 3)) for j in range(cols)], -1
            )
            for i in range(rows)
        ],
        -2,
    )
    y = x + mean - z
    return y + torch.einsum("ch,bhij->bcij", w2, F.gelu(torch.einsum("hc,bcij->bhij", w1, norm(y))))


@right("my_block")
def matmul_form(x, w1, w2, norm):
    z = norm(x)
    y = x - z + F.avg_pool2d(z, 3, 1, 1, False, False)
    return y + (w2 @ F.gelu(w1 @ norm(y).flatten(2))).view_as(x)


@wrong("my_block", "counts_padding", "parallel_halves")
def as_given(x, w1, w2, norm):
    return halves(x, w1, w2, norm, count=True, start="x")


@wrong("my_block", "counts_padding")
def first_left(x, w1, w2, norm):
    return halves(x, w1, w2, norm, count=True)


@wrong("my_block", "parallel_halves")
def second_left(x, w1, w2, norm):
    return halves(x, w1, w2, norm, start="x")


@wrong("my_block", "second_norm_missing")
def one_norm(x, w1, w2, norm):
    return halves(x, w1, w2, norm, second=False)


@wrong("my_block", "no_gelu")
def linear(x, w1, w2, norm):
    return halves(x, w1, w2, norm, act=lambda h: h)


@wrong("my_block", "relu")
def with_relu(x, w1, w2, norm):
    return halves(x, w1, w2, norm, act=F.relu)


@wrong("my_block", "only_average")
def not_subtracted(x, w1, w2, norm):
    y = x + F.avg_pool2d(norm(x), 3, 1, 1, count_include_pad=False)
    return y + (w2 @ F.gelu(w1 @ norm(y).flatten(2))).view_as(x)


@wrong("my_block", "subtracts_the_stream")
def stream_subtracted(x, w1, w2, norm):
    y = F.avg_pool2d(norm(x), 3, 1, 1, count_include_pad=False)
    return y + (w2 @ F.gelu(w1 @ norm(y).flatten(2))).view_as(x)


@wrong("my_block", "no_second_skip")
def last_skip(x, w1, w2, norm):
    z = norm(x)
    y = x + F.avg_pool2d(z, 3, 1, 1, count_include_pad=False) - z
    return (w2 @ F.gelu(w1 @ norm(y).flatten(2))).view_as(x)


@wrong("my_block", "upside_down")
def pixel_minus_mean(x, w1, w2, norm):
    z = norm(x)
    y = x - F.avg_pool2d(z, 3, 1, 1, count_include_pad=False) + z
    return y + (w2 @ F.gelu(w1 @ norm(y).flatten(2))).view_as(x)


@wrong("my_block", "exception")
def no_padding(x, w1, w2, norm):
    z = norm(x)
    y = x + F.avg_pool2d(z, 3, 1) - z
    return y


# ------------------------------------------------------------------------------------------- my_gain


@right("my_gain")
def closed(omega, tau):
    a = 1 - 1 / tau
    return 1 / tau / torch.sqrt(1 + a * a - 2 * a * omega.cos())


@right("my_gain")
def complex_form(omega, tau):
    h = (1 / tau) / (1 - (1 - 1 / tau) * torch.exp(-1j * omega))
    return h.abs()


@right("my_gain")
def parts(omega, tau):
    a = 1 - 1 / tau
    return ((1 - a * omega.cos()) ** 2 + (a * omega.sin()) ** 2).rsqrt() / tau


@right("my_gain")
def multiplied(omega, tau):
    return 1 / torch.sqrt(tau**2 + (tau - 1) ** 2 - 2 * tau * (tau - 1) * torch.cos(omega))


@right("my_gain")
def polar(omega, tau):
    one = torch.polar(torch.ones_like(omega), -omega)
    return (1 / (tau - (tau - 1) * one)).abs()


@wrong("my_gain", "continuous")
def continuous_time(omega, tau):
    return 1 / (1 + (omega * tau) ** 2).sqrt()


@wrong("my_gain", "without_input_factor")
def undivided(omega, tau):
    a = 1 - 1 / tau
    return 1 / torch.sqrt(1 + a * a - 2 * a * omega.cos())


@wrong("my_gain", "squared")
def power(omega, tau):
    return closed(omega, tau) ** 2


@wrong("my_gain", "sign_of_cosine")
def plus_cosine(omega, tau):
    a = 1 - 1 / tau
    return 1 / tau / torch.sqrt(1 + a * a + 2 * a * omega.cos())


@wrong("my_gain", "leak")
def share_for_rest(omega, tau):
    a = 1 / tau
    return a / torch.sqrt(1 + a * a - 2 * a * omega.cos())


@wrong("my_gain", "real_part")
def real(omega, tau):
    return ((1 / tau) / (1 - (1 - 1 / tau) * torch.exp(-1j * omega))).real


@wrong("my_gain", "dtype")
def not_absolute(omega, tau):
    return (1 / tau) / (1 - (1 - 1 / tau) * torch.exp(-1j * omega))


@wrong("my_gain", "inverse")
def one_over(omega, tau):
    return 1 / closed(omega, tau)


@wrong("my_gain", "logarithm", "value")
def decibel(omega, tau):
    return closed(omega, tau).log()


@wrong("my_gain", "squared", "without_input_factor")
def both_slips(omega, tau):
    a = 1 - 1 / tau
    return 1 / (1 + a * a - 2 * a * omega.cos())


@wrong("my_gain", "exception")
def with_math(omega, tau):
    return math.sqrt(1 - omega) / tau


# --------------------------------------------------------------------------------------- my_soft_lif


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 1).to(v)

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        s = torch.sigmoid(4 * (v - 1))
        return g * 4 * s * (1 - s)


def neuron(x, tau, step, rest=None, memory=True, divide=True):
    u, out = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        v = (u if memory else 0) + (x[:, t] - u) / (tau if divide else 1)
        s = step(v)
        out.append(s)
        u = (rest or (lambda v, s: v - s.detach()))(v, s)
    return torch.stack(out, dim=1)


def straight(v):
    soft = torch.sigmoid(4 * (v - 1))
    return (v >= 1).to(v) + soft - soft.detach()


@right("my_soft_lif")
def own_class(x, tau):
    return neuron(x, tau, Step.apply)


@right("my_soft_lif")
def trick(x, tau):
    return neuron(x, tau, straight)


@right("my_soft_lif")
def other_trick(x, tau):
    def step(v):
        soft = torch.sigmoid(4 * (v - 1))
        return soft + ((v >= 1).to(v) - soft).detach()

    return neuron(x, tau, step, lambda v, s: v - (v >= 1).to(v))


@right("my_soft_lif")
def with_where(x, tau):
    return neuron(x, tau, straight, lambda v, s: torch.where(v >= 1, v - 1, v))


@right("my_soft_lif")
def leaky_form(x, tau):
    u, out = 0 * x[:, 0], []
    for current in x.unbind(1):
        v = (1 - 1 / tau) * u + current / tau
        out.append(straight(v))
        u = v - (v >= 1.0).double()
    return torch.stack(out, 1)


@wrong("my_soft_lif", "to_zero")
def usual_reset(x, tau):
    return neuron(x, tau, straight, lambda v, s: v * (1 - s.detach()))


@wrong("my_soft_lif", "no_reset")
def never_reset(x, tau):
    return neuron(x, tau, straight, lambda v, s: v)


@wrong("my_soft_lif", "gradient_through_reset")
def attached(x, tau):
    return neuron(x, tau, straight, lambda v, s: v - s)


@wrong("my_soft_lif", "no_surrogate", "no gradient")
def hard(x, tau):
    return neuron(x, tau, lambda v: (v >= 1).to(v))


@wrong("my_soft_lif", "flat_surrogate")
def slope_one(x, tau):
    def step(v):
        soft = torch.sigmoid(v - 1)
        return (v >= 1).to(v) + soft - soft.detach()

    return neuron(x, tau, step)


@wrong("my_soft_lif", "soft_spikes")
def soft(x, tau):
    return neuron(x, tau, lambda v: torch.sigmoid(4 * (v - 1)), lambda v, s: v - (v >= 1).to(v))


@wrong("my_soft_lif", "undivided")
def tau_forgotten(x, tau):
    return neuron(x, tau, straight, divide=False)


@wrong("my_soft_lif", "strict")
def above_only(x, tau):
    def step(v):
        soft = torch.sigmoid(4 * (v - 1))
        return (v > 1).to(v) + soft - soft.detach()

    return neuron(x, tau, step)


@wrong("my_soft_lif", "shape")
def time_first(x, tau):
    return neuron(x, tau, straight).transpose(0, 1)


@wrong("my_soft_lif", "dtype")
def booleans(x, tau):
    return neuron(x, tau, lambda v: v >= 1, lambda v, s: v - s.to(v))


@wrong("my_soft_lif", "to_zero", "flat_surrogate")
def both_of_them(x, tau):
    def step(v):
        soft = torch.sigmoid(v - 1)
        return (v >= 1).to(v) + soft - soft.detach()

    return neuron(x, tau, step, lambda v, s: v * (1 - s.detach()))


# ------------------------------------------------------------------------------------ my_same_spikes


@right("my_same_spikes")
def always():
    return torch.full((8,), 2.0), torch.full((8,), 4.0)


@right("my_same_spikes")
def every_second():
    return torch.tensor([3.0, 0, 3, 0, 3, 0, 3, 0]), torch.tensor([8.0, -1, 9, -2, 7, -1, 6, -3])


@wrong("my_same_spikes", "value")
def silent():
    return torch.zeros(8), torch.ones(8)


@wrong("my_same_spikes", "value")
def too_near():
    return torch.full((8,), 2.0), torch.full((8,), 2.5)


@wrong("my_same_spikes", "value")
def told_apart():
    return torch.full((8,), 2.0), torch.tensor([4.0, 4, 4, 4, 4, 4, 4, 0])


@wrong("my_same_spikes", "value")
def too_long():
    return torch.full((9,), 2.0), torch.full((9,), 4.0)


@wrong("my_same_spikes", "value")
def one_current():
    return torch.full((8,), 2.0)


# -------------------------------------------------------------------------------- my_reversal_matrix


@right("my_reversal_matrix")
def kron(tokens, channels):
    return torch.kron(torch.eye(tokens).flip(0), torch.eye(channels))


@right("my_reversal_matrix")
def fliplr(tokens, channels):
    return torch.kron(torch.fliplr(torch.eye(tokens)), torch.eye(channels)).double()


@right("my_reversal_matrix")
def by_rows(tokens, channels):
    return torch.eye(tokens * channels).view(tokens, channels, -1).flip(0).flatten(0, 1)


@right("my_reversal_matrix")
def looped(tokens, channels):
    out = torch.zeros(tokens * channels, tokens * channels)
    for s in range(tokens):
        for k in range(channels):
            out[s * channels + k, (tokens - 1 - s) * channels + k] = 1.0
    return out


@right("my_reversal_matrix")
def indexed(tokens, channels):
    order = torch.arange(tokens * channels).view(tokens, channels).flip(0).flatten()
    return torch.eye(tokens * channels)[order]


@wrong("my_reversal_matrix", "channels_too")
def all_reversed(tokens, channels):
    return torch.eye(tokens * channels).flip(0)


@wrong("my_reversal_matrix", "identity")
def nothing(tokens, channels):
    return torch.eye(tokens * channels)


@wrong("my_reversal_matrix", "other_layout")
def channel_by_channel(tokens, channels):
    return torch.kron(torch.eye(channels), torch.eye(tokens).flip(0))


@wrong("my_reversal_matrix", "shifted")
def next_token(tokens, channels):
    return torch.kron(torch.eye(tokens).roll(1, 0), torch.eye(channels))


@wrong("my_reversal_matrix", "shape")
def one_channel(tokens, channels):
    return torch.eye(tokens).flip(0)


@wrong("my_reversal_matrix", "dtype")
def integers(tokens, channels):
    return kron(tokens, channels).long()


@wrong("my_reversal_matrix", "factor")
def scaled(tokens, channels):
    return kron(tokens, channels) / 2


@wrong("my_reversal_matrix", "value")
def of_ones(tokens, channels):
    return torch.kron(torch.eye(tokens).flip(0), torch.ones(channels, channels))


@wrong("my_reversal_matrix", "sign")
def minus(tokens, channels):
    return -kron(tokens, channels)


@wrong("my_reversal_matrix", "exception")
def wrong_sizes(tokens, channels):
    return torch.eye(tokens) @ torch.eye(channels + tokens + 1)


@wrong("my_reversal_matrix", "identity", "value")
def flipped_twice(tokens, channels):
    return torch.kron(torch.eye(tokens).flip(0).flip(1), torch.eye(channels))
