"""Answers to the exercises on normalization."""

import math

import torch
from torch import einsum
from torch.nn import functional as F

from tests.exercises.corpus import Corpus

corpus = Corpus("layers/norm")
right, wrong = corpus.right, corpus.wrong


# ------------------------------------------------------------------------------------- my_group_norm


@right("my_group_norm")
def unflattened(x, groups, eps=1e-5):
    y = x.unflatten(1, (groups, -1))
    var, mean = torch.var_mean(y, (2, 3, 4), correction=0, keepdim=True)
    return ((y - mean) * torch.rsqrt(var + eps)).flatten(1, 2)


@right("my_group_norm")
def group_after_group(x, groups, eps=1e-5):
    parts = []
    for part in x.chunk(groups, dim=1):
        mean = part.mean((1, 2, 3), keepdim=True)
        var = part.var((1, 2, 3), keepdim=True, unbiased=False)
        parts.append((part - mean) / torch.sqrt(var + eps))
    return torch.cat(parts, 1)


@right("my_group_norm")
def written_into(images, number, eps=1e-5):
    out = torch.empty_like(images)
    size = images.shape[1] // number
    for b in range(images.shape[0]):
        for i in range(number):
            part = images[b, i * size : (i + 1) * size]
            out[b, i * size : (i + 1) * size] = (part - part.mean()) / (part.var(correction=0) + eps) ** 0.5
    return out


@right("my_group_norm")
def moments(x, groups, eps=1e-5):
    y = x.view(x.shape[0] * groups, -1)
    m = y.mean(1, keepdim=True)
    return ((y - m) / ((y - m) ** 2).mean(1, keepdim=True).add(eps).sqrt()).view(x.shape)


@right("my_group_norm")
def group_norm_in_float32(x, groups, eps=1e-5):
    y = x.float().reshape(x.shape[0], groups, -1)
    return ((y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True, correction=0) + eps)).view(
        x.shape
    )


@wrong("my_group_norm", "unbiased")
def default_variance(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    return ((y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True) + eps)).reshape(x.shape)


@wrong("my_group_norm", "eps_outside")
def added_to_deviation(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    std = y.std(-1, keepdim=True, correction=0)
    return ((y - y.mean(-1, keepdim=True)) / (std + eps)).reshape(x.shape)


@wrong("my_group_norm", "eps_outside", "unbiased")
def std_plus_eps(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    return ((y - y.mean(-1, keepdim=True)) / (y.std(-1, keepdim=True) + eps)).reshape(x.shape)


@wrong("my_group_norm", "strided", "taking_turns")
def channels_dealt_out(x, groups, eps=1e-5):
    b, c, h, w = x.shape
    y = x.reshape(b, c // groups, groups, h, w)
    mean = y.mean((1, 3, 4), keepdim=True)
    var = y.var((1, 3, 4), keepdim=True, correction=0)
    return ((y - mean) / torch.sqrt(var + eps)).reshape(x.shape)


@wrong("my_group_norm", "over_batch")
def batch_in_the_group(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    mean = y.mean((0, 2), keepdim=True)
    var = y.var((0, 2), keepdim=True, correction=0)
    return ((y - mean) / torch.sqrt(var + eps)).reshape(x.shape)


@wrong("my_group_norm", "each_channel", "ignored groups")
def instance(x, groups, eps=1e-5):
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(x.var((2, 3), keepdim=True, correction=0) + eps)


@wrong("my_group_norm", "size_for_number")
def groups_of_that_size(x, groups, eps=1e-5):
    y = x.reshape(len(x), x.shape[1] // groups, -1)
    return ((y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True, correction=0) + eps)).reshape(
        x.shape
    )


@wrong("my_group_norm", "each_position", "only_channels")
def channels_only(x, groups, eps=1e-5):
    y = x.unflatten(1, (groups, -1))
    return ((y - y.mean(2, keepdim=True)) / torch.sqrt(y.var(2, keepdim=True, correction=0) + eps)).flatten(
        1, 2
    )


@wrong("my_group_norm", "no_root")
def by_variance(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    return ((y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + eps)).reshape(x.shape)


@wrong("my_group_norm", "mean_kept")
def not_centred(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    return (y / torch.sqrt(y.var(-1, keepdim=True, correction=0) + eps)).reshape(x.shape)


@wrong("my_group_norm", "mean_square")
def root_mean_square(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    return (y / torch.sqrt(y.square().mean(-1, keepdim=True) + eps)).reshape(x.shape)


@wrong("my_group_norm", "no_eps", "nan")
def without_eps(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    return ((y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True, correction=0)).reshape(x.shape)


@wrong("my_group_norm", "fixed_eps", "ignored eps")
def own_eps(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    return (
        (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True, correction=0) + 1e-5)
    ).reshape(x.shape)


@wrong("my_group_norm", "shape", "axis left")
def left_in_groups(x, groups, eps=1e-5):
    y = x.unflatten(1, (groups, -1))
    var, mean = torch.var_mean(y, (2, 3, 4), correction=0, keepdim=True)
    return (y - mean) / torch.sqrt(var + eps)


@wrong("my_group_norm", "without group_norm, layer_norm, instance_norm, batch_norm")
def ready_made(x, groups, eps=1e-5):
    return F.group_norm(x, groups, eps=eps)


@wrong("my_group_norm", "statistics_detached", "gradient", "part of the gradient")
def constants(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    with torch.no_grad():
        mean, var = y.mean(-1, keepdim=True), y.var(-1, keepdim=True, correction=0)
    return ((y - mean) / torch.sqrt(var + eps)).reshape(x.shape)


@wrong("my_group_norm", "exception")
def no_keepdim(x, groups, eps=1e-5):
    y = x.reshape(len(x), groups, -1)
    return ((y - y.mean(-1)) / torch.sqrt(y.var(-1, correction=0) + eps)).reshape(x.shape)


# ------------------------------------------------------------------------------------------- my_fold


@right("my_fold")
def by_diagonal(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / (var + eps).sqrt() + eta
    c = b - g * mean / (var + eps).sqrt()
    return torch.diag(a) @ weight, a * bias + c


@right("my_fold")
def centred_bias(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g * torch.rsqrt(var + eps)
    return einsum("o,od->od", a + eta, weight), a * (bias - mean) + b + eta * bias


@right("my_fold")
def row_by_row(weight, bias, g, b, mean, var, eta, eps=1e-5):
    rows, shifts = [], []
    for o in range(len(bias)):
        a = g[o] / torch.sqrt(var[o] + eps)
        rows.append((a + eta) * weight[o])
        shifts.append((a + eta) * bias[o] + b[o] - a * mean[o])
    return torch.stack(rows), torch.stack(shifts)


@right("my_fold")
def tried_on_units(w, bias, g, b, mu, var, eta, eps=1e-5):
    def both(x):
        z = x @ w.T + bias
        return g * (z - mu) / torch.sqrt(var + eps) + b + eta * z

    shift = both(torch.zeros(1, w.shape[1]))[0]
    return (both(torch.eye(w.shape[1])) - shift).T, shift


@right("my_fold")
def as_list(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return [(weight.T * (a + eta)).T, bias * (a + eta) - a * mean + b]


@wrong("my_fold", "in_front", "exception")
def as_in_the_chapter(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return weight * (a + eta), bias + weight @ (b - a * mean)


@wrong("my_fold", "exception", "in_front", "columns")
def columns_scaled(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return weight * (a + eta), (a + eta) * bias + b - a * mean


@wrong("my_fold", "no_eta", "ignored eta")
def plain_batch_norm(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return a[:, None] * weight, a * (bias - mean) + b


@wrong("my_fold", "eta_on_centred")
def eta_times_difference(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps) + eta
    return a[:, None] * weight, a * (bias - mean) + b


@wrong("my_fold", "bias_not_scaled")
def old_bias_kept(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return (a + eta)[:, None] * weight, bias + b - a * mean


@wrong("my_fold", "eta_not_in_bias")
def eta_in_weight_only(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return (a + eta)[:, None] * weight, a * (bias - mean) + b


@wrong("my_fold", "bias_forgotten", "ignored bias")
def no_old_bias(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return (a + eta)[:, None] * weight, b - a * mean


@wrong("my_fold", "no_root")
def variance_for_deviation(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / (var + eps)
    return (a + eta)[:, None] * weight, (a + eta) * bias + b - a * mean


@wrong("my_fold", "eps_outside")
def eps_after_root(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / (var.sqrt() + eps)
    return (a + eta)[:, None] * weight, (a + eta) * bias + b - a * mean


@wrong("my_fold", "mean_not_scaled")
def mean_subtracted_last(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return (a + eta)[:, None] * weight, (a + eta) * bias + b - mean


@wrong("my_fold", "mean_added")
def wrong_sign(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    return (a + eta)[:, None] * weight, (a + eta) * bias + b + a * mean


@wrong("my_fold", "type")
def weight_alone(weight, bias, g, b, mean, var, eta, eps=1e-5):
    return (g / torch.sqrt(var + eps) + eta)[:, None] * weight


@wrong("my_fold", "eta_on_centred", "no_root")
def two_faults(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / (var + eps) + eta
    return a[:, None] * weight, a * (bias - mean) + b


@wrong("my_fold", "in place")
def weight_changed(weight, bias, g, b, mean, var, eta, eps=1e-5):
    a = g / torch.sqrt(var + eps)
    weight *= (a + eta)[:, None]
    return weight, (a + eta) * bias + b - a * mean


# --------------------------------------------------------------------------------------- my_flatness


@right("my_flatness")
def with_entr(weights):
    t = weights.shape[-1]
    entropy = torch.special.entr(weights).sum(-1)[..., 1:]
    return (entropy / torch.log(torch.arange(2, t + 1))).mean(dim=(0, 2))


@right("my_flatness")
def with_xlogy(weights):
    entropy = -torch.special.xlogy(weights, weights).sum(-1)
    largest = torch.arange(1, weights.shape[-1] + 1).log()
    return (entropy[:, :, 1:] / largest[1:]).mean(-1).mean(0)


@right("my_flatness")
def row_after_row(maps):
    _, h, t, _ = maps.shape
    total = torch.zeros(h)
    for row in range(1, t):
        seen = maps[:, :, row, : row + 1]
        total = total - torch.where(seen > 0, seen * seen.log(), 0.0).sum(-1).mean(0) / math.log(row + 1)
    return total / (t - 1)


@right("my_flatness")
def nan_to_zero(weights):
    t = weights.shape[-1]
    entropy = -(weights * weights.log()).nan_to_num().sum(-1)
    return torch.stack([entropy[..., i] / math.log(i + 1) for i in range(1, t)], -1).mean((0, 2))


@right("my_flatness")
def clamped(weights):
    entropy = -(weights * weights.clamp(min=1e-30).log()).sum(-1)[..., 1:]
    return (entropy / torch.arange(2, weights.shape[-1] + 1).to(weights).log()).mean((0, 2))


@right("my_flatness")
def with_bits(weights):
    log = torch.where(weights == 0, torch.ones_like(weights), weights).log2()
    entropy = -(weights * log).sum(-1)[..., 1:]
    return (entropy / torch.arange(2, weights.shape[-1] + 1).log2()).mean((0, 2))


def entropies(weights):
    return torch.special.entr(weights).sum(-1)


@wrong("my_flatness", "nan", "nan_from_zero")
def zero_times_infinity(weights):
    entropy = -(weights * weights.log()).sum(-1)[..., 1:]
    return (entropy / torch.arange(2, weights.shape[-1] + 1).log()).mean((0, 2))


@wrong("my_flatness", "one_maximum")
def by_log_of_length(weights):
    return entropies(weights)[..., 1:].mean((0, 2)) / math.log(weights.shape[-1])


@wrong("my_flatness", "nan", "first_row")
def first_row_too(weights):
    return (entropies(weights) / torch.arange(1, weights.shape[-1] + 1).log()).mean((0, 2))


@wrong("my_flatness", "one_too_many")
def logarithm_shifted(weights):
    return (entropies(weights)[..., 1:] / torch.arange(3, weights.shape[-1] + 2).log()).mean((0, 2))


@wrong("my_flatness", "one_too_few")
def logarithm_of_t(weights):
    return (entropies(weights)[..., 1:] / torch.arange(1, weights.shape[-1]).log()).mean((0, 2))


@wrong("my_flatness", "sign", "sign_forgotten")
def negative(weights):
    return -(entropies(weights)[..., 1:] / torch.arange(2, weights.shape[-1] + 1).log()).mean((0, 2))


@wrong("my_flatness", "shape", "axis lost", "one_number")
def one_number(weights):
    return (entropies(weights)[..., 1:] / torch.arange(2, weights.shape[-1] + 1).log()).mean()


@wrong("my_flatness", "shape", "axis left", "samples_left")
def samples_left(weights):
    return (entropies(weights)[..., 1:] / torch.arange(2, weights.shape[-1] + 1).log()).mean(-1)


@wrong("my_flatness", "shape", "one_row_each", "axis left")
def rows_left(weights):
    return (entropies(weights)[..., 1:] / torch.arange(2, weights.shape[-1] + 1).log()).mean(0)


@wrong("my_flatness", "over_queries")
def columns(weights):
    entropy = torch.special.entr(weights).sum(-2)[..., 1:]
    return (entropy / torch.arange(2, weights.shape[-1] + 1).log()).mean((0, 2))


@wrong("my_flatness", "not_divided")
def plain_entropy(weights):
    return entropies(weights)[..., 1:].mean((0, 2))


@wrong("my_flatness", "row_zero_counted")
def zero_counts(weights):
    t = weights.shape[-1]
    relative = entropies(weights)[..., 1:] / torch.arange(2, t + 1).log()
    return relative.sum(-1).mean(0) / t


@wrong("my_flatness", "ratio_of_means", "value")
def means_divided(weights):
    largest = torch.arange(2, weights.shape[-1] + 1).log()
    return entropies(weights)[..., 1:].mean((0, 2)) / largest.mean()


@wrong("my_flatness", "sum_over_samples", "sum for mean", "factor of the input")
def samples_added(weights):
    relative = entropies(weights)[..., 1:] / torch.arange(2, weights.shape[-1] + 1).log()
    return relative.mean(-1).sum(0)


@wrong("my_flatness", "last_row_lost", "value", "exception")
def last_row_left_out(weights):
    relative = entropies(weights)[..., :-1] / torch.arange(2, weights.shape[-1] + 1).log()
    return relative.mean((0, 2))


@wrong("my_flatness", "base_two")
def bits_over_nats(weights):
    entropy = -(weights * weights.clamp(min=1e-30).log2()).sum(-1)[..., 1:]
    return (entropy / torch.arange(2, weights.shape[-1] + 1).log()).mean((0, 2))


# ------------------------------------------------------------------------------- my_project_backward


@right("my_project_backward")
def projector(dy):
    d = dy.shape[-1]
    return dy @ (torch.eye(d) - torch.ones(d, d) / d)


@right("my_project_backward")
def sum_over_width(dy):
    return dy - dy.sum(1, keepdim=True) / dy.shape[1]


@right("my_project_backward")
def entry_by_entry(dy):
    out = torch.zeros_like(dy)
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            out[i, j] = dy[i, j] - dy[i].mean()
    return out


@right("my_project_backward")
def jacobian_by_hand(g):
    d = g.shape[1]
    jacobian = torch.full((d, d), -1 / d)
    jacobian.fill_diagonal_(1 - 1 / d)
    return einsum("ni,ij->nj", g, jacobian)


@right("my_project_backward")
def project_in_float32(dy):
    y = dy.float()
    return y - y.mean(-1).unsqueeze(-1)


@wrong("my_project_backward", "mean_constant")
def identity(dy):
    return dy


@wrong("my_project_backward", "over_rows", "wrong axis")
def column_means(dy):
    return dy - dy.mean(0)


@wrong("my_project_backward", "sum_for_mean")
def sums(dy):
    return dy - dy.sum(-1, keepdim=True)


@wrong("my_project_backward", "added")
def plus(dy):
    return dy + dy.mean(-1, keepdim=True)


@wrong("my_project_backward", "own_entry_only")
def own_share(dy):
    return dy * (1 - 1 / dy.shape[-1])


@wrong("my_project_backward", "exception")
def without_keepdim(dy):
    return dy - dy.mean(-1)


@wrong("my_project_backward", "over_all")
def whole_mean(dy):
    return dy - dy.mean()


@wrong("my_project_backward", "mean_only")
def just_mean(dy):
    return dy.mean(-1, keepdim=True).expand_as(dy)


@wrong("my_project_backward", "sign")
def minus(dy):
    return dy.mean(-1, keepdim=True) - dy


@wrong("my_project_backward", "without autograd")
def autograd_after_all(dy):
    x = torch.zeros_like(dy).requires_grad_()
    return torch.autograd.grad((x - x.mean(-1, keepdim=True)), x, dy)[0]


@wrong("my_project_backward", "mean_constant", "value")
def divided(dy):
    return dy / dy.shape[-1]


# --------------------------------------------------------------------------------- my_scale_backward


def radius(x, eps):
    return torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


@right("my_scale_backward")
def quotient_rule(dy, x, eps=1e-5):
    r = radius(x, eps)
    return dy / r - x * (dy * x).sum(-1, keepdim=True) / (x.shape[-1] * r**3)


@right("my_scale_backward")
def by_jacobian(dy, x, eps=1e-5):
    r = radius(x, eps)[..., None]
    d = x.shape[-1]
    jacobian = torch.eye(d) / r - x[:, :, None] * x[:, None, :] / (d * r**3)
    return einsum("ni,nij->nj", dy, jacobian)


@right("my_scale_backward")
def rows_in_turn(dy, x, eps=1e-5):
    out = []
    for a, b in zip(dy, x, strict=True):
        r = (b.pow(2).mean() + eps).sqrt()
        out.append((a - b * (a @ b) / (len(b) * r**2)) / r)
    return torch.stack(out)


@right("my_scale_backward")
def with_rsqrt(g, v, eps=1e-5):
    s = torch.rsqrt((v * v).mean(1, keepdim=True) + eps)
    n = v * s
    return s * (g - n * (g * n).mean(1, keepdim=True))


@right("my_scale_backward")
def scale_in_float32(dy, x, eps=1e-5):
    dy, x = dy.float(), x.float()
    r = radius(x, eps)
    y = x / r
    return (dy - y * (dy * y).mean(-1, keepdim=True)) / r


@wrong("my_scale_backward", "radius_constant")
def divided_by_radius(dy, x, eps=1e-5):
    return dy / radius(x, eps)


@wrong("my_scale_backward", "not_divided")
def radius_forgotten(dy, x, eps=1e-5):
    y = x / radius(x, eps)
    return dy - y * (dy * y).mean(-1, keepdim=True)


@wrong("my_scale_backward", "sum_for_mean")
def sum_in_the_place(dy, x, eps=1e-5):
    r = radius(x, eps)
    y = x / r
    return (dy - y * (dy * y).sum(-1, keepdim=True)) / r


@wrong("my_scale_backward", "input_for_output")
def x_for_y(dy, x, eps=1e-5):
    r = radius(x, eps)
    return (dy - x * (dy * x).mean(-1, keepdim=True)) / r


@wrong("my_scale_backward", "power_two")
def square_of_radius(dy, x, eps=1e-5):
    r = radius(x, eps)
    return dy / r - x * (dy * x).mean(-1, keepdim=True) / r**2


@wrong("my_scale_backward", "plus")
def with_plus(dy, x, eps=1e-5):
    r = radius(x, eps)
    y = x / r
    return (dy + y * (dy * y).mean(-1, keepdim=True)) / r


@wrong("my_scale_backward", "own_entry_only")
def diagonal_only(dy, x, eps=1e-5):
    r = radius(x, eps)
    y = x / r
    return (dy - dy * y * y / x.shape[-1]) / r


@wrong("my_scale_backward", "eps_dropped", "no_eps", "nan")
def no_eps(dy, x, eps=1e-5):
    r = x.square().mean(-1, keepdim=True).sqrt()
    y = x / r
    return (dy - y * (dy * y).mean(-1, keepdim=True)) / r


@wrong("my_scale_backward", "centred")
def mean_taken_out(dy, x, eps=1e-5):
    r = radius(x, eps)
    y = x / r
    return (dy - dy.mean(-1, keepdim=True) - y * (dy * y).mean(-1, keepdim=True)) / r


@wrong("my_scale_backward", "length_one")
def unit_length(dy, x, eps=1e-5):
    r = torch.sqrt(x.square().sum(-1, keepdim=True) + eps)
    y = x / r
    return (dy - y * (dy * y).sum(-1, keepdim=True)) / r


@wrong("my_scale_backward", "over_rows", "wrong axis", "value")
def over_the_batch(dy, x, eps=1e-5):
    r = radius(x, eps)
    y = x / r
    return (dy - y * (dy * y).mean(0)) / r


@wrong("my_scale_backward", "half_chain", "value")
def half_left(dy, x, eps=1e-5):
    r = radius(x, eps)
    y = x / r
    return (dy - 0.5 * y * (dy * y).mean(-1, keepdim=True)) / r


@wrong("my_scale_backward", "twice")
def two_left(dy, x, eps=1e-5):
    r = radius(x, eps)
    y = x / r
    return (dy - 2 * y * (dy * y).mean(-1, keepdim=True)) / r


@wrong("my_scale_backward", "forward")
def forwards(dy, x, eps=1e-5):
    return x / radius(x, eps)


@wrong("my_scale_backward", "without autograd")
def by_vjp(dy, x, eps=1e-5):
    return torch.func.vjp(lambda z: z / radius(z, eps), x)[1](dy)[0]


# ---------------------------------------------------------------------------- my_layer_norm_backward


def normalised(x, eps):
    centred = x - x.mean(-1, keepdim=True)
    r = radius(centred, eps)
    return centred / r, r


@right("my_layer_norm_backward")
def one_line(dy, x, g, eps=1e-5):
    n, r = normalised(x, eps)
    q = g * dy
    return (
        (q - q.mean(-1, keepdim=True) - n * (q * n).mean(-1, keepdim=True)) / r,
        (dy * n).sum(0),
        dy.sum(0),
    )


@right("my_layer_norm_backward")
def as_a_list(dy, x, g, eps=1e-5):
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    s = torch.rsqrt(var + eps)
    n = (x - mean) * s
    q = dy * g
    a, b = q.mean(1, keepdim=True), (q * n).mean(1, keepdim=True)
    return [s * (q - a - n * b), einsum("nd,nd->d", dy, n), einsum("nd->d", dy)]


@right("my_layer_norm_backward")
def step_by_step(dy, x, g, eps=1e-5):
    p = sum_over_width(x)
    return sum_over_width(quotient_rule(dy * g, p, eps)), (dy * p / radius(p, eps)).sum(0), dy.sum(0)


@right("my_layer_norm_backward")
def sample_by_sample(dy, x, g, eps=1e-5):
    dx, dg, db = [], torch.zeros_like(g), torch.zeros_like(g)
    for a, row in zip(dy, x, strict=True):
        n = (row - row.mean()) / (row.var(correction=0) + eps).sqrt()
        q = g * a
        dx.append((q - q.mean() - n * (q * n).mean()) / (row.var(correction=0) + eps).sqrt())
        dg, db = dg + a * n, db + a
    return torch.stack(dx), dg, db


@right("my_layer_norm_backward")
def textbook(dout, x, gamma, eps=1e-5):
    d = x.shape[1]
    mu, var = x.mean(1, keepdim=True), ((x - x.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True)
    std = (var + eps) ** 0.5
    dn = dout * gamma
    dvar = (dn * (x - mu) * -0.5 * (var + eps) ** -1.5).sum(1, keepdim=True)
    dmu = (-dn / std).sum(1, keepdim=True) + dvar * (-2 * (x - mu)).sum(1, keepdim=True) / d
    dx = dn / std + dvar * 2 * (x - mu) / d + dmu / d
    return dx, (dout * (x - mu) / std).sum(0), dout.sum(0)


@wrong("my_layer_norm_backward", "no_gain")
def gain_forgotten(dy, x, g, eps=1e-5):
    dx, dg, db = one_line(dy, x, torch.ones_like(g), eps)
    return dx, dg, db


@wrong("my_layer_norm_backward", "gain_last")
def gain_at_the_end(dy, x, g, eps=1e-5):
    dx, dg, db = one_line(dy, x, torch.ones_like(g), eps)
    return g * dx, dg, db


@wrong("my_layer_norm_backward", "not_centred")
def x_into_scale(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    return sum_over_width(quotient_rule(g * dy, x, eps)), (dy * n).sum(0), dy.sum(0)


@wrong("my_layer_norm_backward", "constant_mean")
def projection_forgotten(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    return quotient_rule(g * dy, sum_over_width(x), eps), (dy * n).sum(0), dy.sum(0)


@wrong("my_layer_norm_backward", "constant_deviation")
def deviation_constant(dy, x, g, eps=1e-5):
    n, r = normalised(x, eps)
    q = g * dy
    return (q - q.mean(-1, keepdim=True)) / r, (dy * n).sum(0), dy.sum(0)


@wrong("my_layer_norm_backward", "means_over_samples")
def averaged(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    return one_line(dy, x, g, eps)[0], (dy * n).mean(0), dy.mean(0)


@wrong("my_layer_norm_backward", "shape", "samples_not_summed", "axis left")
def per_sample(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    return one_line(dy, x, g, eps)[0], dy * n, dy


@wrong("my_layer_norm_backward", "gain_from_x")
def gain_from_x(dy, x, g, eps=1e-5):
    return one_line(dy, x, g, eps)[0], (dy * x).sum(0), dy.sum(0)


@wrong("my_layer_norm_backward", "gain_twice")
def gain_in_its_own_gradient(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    return one_line(dy, x, g, eps)[0], (g * dy * n).sum(0), dy.sum(0)


@wrong("my_layer_norm_backward", "gain_twice", "shift_with_gain")
def all_from_q(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    q = g * dy
    return one_line(dy, x, g, eps)[0], (q * n).sum(0), q.sum(0)


@wrong("my_layer_norm_backward", "unbiased")
def unbiased_deviation(dy, x, g, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    r = torch.sqrt(x.var(-1, keepdim=True) + eps)
    n, q = centred / r, g * dy
    dx = (q - q.mean(-1, keepdim=True) - n * (q * n).mean(-1, keepdim=True)) / r
    return dx, (dy * n).sum(0), dy.sum(0)


@right("my_layer_norm_backward")  # on a centred row the two steps may change places
def projected_first(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    return quotient_rule(sum_over_width(g * dy), sum_over_width(x), eps), (dy * n).sum(0), dy.sum(0)


@wrong("my_layer_norm_backward", "shape", "axis lost", "over_width")
def summed_over_width(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    return one_line(dy, x, g, eps)[0], (dy * n).sum(-1), dy.sum(-1)


@wrong("my_layer_norm_backward", "type")
def only_dx(dy, x, g, eps=1e-5):
    return one_line(dy, x, g, eps)[0]


@wrong("my_layer_norm_backward", "without autograd")
def backwards_by_torch(dy, x, g, eps=1e-5):
    x, g = x.detach().requires_grad_(), g.detach().requires_grad_()
    b = torch.zeros_like(g).requires_grad_()
    F.layer_norm(x, g.shape, g, b, eps).backward(dy)
    return x.grad, g.grad, b.grad


@wrong("my_layer_norm_backward", "no_gain", "means_over_samples")
def two_at_once(dy, x, g, eps=1e-5):
    n, _ = normalised(x, eps)
    return one_line(dy, x, torch.ones_like(g), eps)[0], (dy * n).mean(0), dy.mean(0)


# ------------------------------------------------------------------------------------- my_evonorm_b0


def column(p):
    return p.view(1, -1, 1, 1)


def b0(x, gamma, beta, v, batch, image, eps):
    over_batch = torch.sqrt(column(batch) + eps)
    return column(gamma) * x / torch.maximum(over_batch, column(v) * x + torch.sqrt(image + eps)) + column(
        beta
    )


def image_variance(x):
    return x.var((2, 3), keepdim=True, correction=0)


@right("my_evonorm_b0")
def with_moments(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = running
    if training:
        batch = (x - x.mean((0, 2, 3), keepdim=True)).square().mean((0, 2, 3))
        running = running + momentum * (batch - running)
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@right("my_evonorm_b0")
def lerped(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    if not training:
        return b0(x, gamma, beta, v, running, image_variance(x), eps), running
    batch = x.transpose(0, 1).flatten(1).var(1, unbiased=False)
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), torch.lerp(running, batch, momentum)


@right("my_evonorm_b0")
def channel_by_channel(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    outs, news = [], []
    for c in range(x.shape[1]):
        z = x[:, c]
        var = z.var(correction=0) if training else running[c]
        image = z.var((1, 2), correction=0, keepdim=True)
        low = torch.maximum((var + eps).sqrt(), v[c] * z + (image + eps).sqrt())
        outs.append(gamma[c] * z / low + beta[c])
        news.append((1 - momentum) * running[c] + momentum * var if training else running[c])
    return torch.stack(outs, 1), torch.stack(news)


@right("my_evonorm_b0")
def scaled_back(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    n = x[:, 0].numel()
    batch = x.var((0, 2, 3)) * (n - 1) / n if training else running
    new = (1 - momentum) * running + momentum * batch if training else running.clone()
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), new


@right("my_evonorm_b0")
def as_a_pair(x, gamma, beta, v, var, train, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3), correction=0) if train else var
    share = momentum if train else 0
    y = b0(x, gamma, beta, v, batch, image_variance(x), eps)
    return [y, var * (1 - share) + batch * share]


@wrong("my_evonorm_b0", "unbiased", "reversed_memory", "looks_at_batch")
def as_given(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3))
    if training:
        running = (1 - momentum) * batch + momentum * running
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@wrong("my_evonorm_b0", "reversed_memory", "looks_at_batch")
def only_correction(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3), correction=0)
    if training:
        running = (1 - momentum) * batch + momentum * running
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@wrong("my_evonorm_b0", "unbiased")
def still_unbiased(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3)) if training else running
    if training:
        running = (1 - momentum) * running + momentum * batch
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@wrong("my_evonorm_b0", "reversed_memory")
def still_reversed(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3), correction=0) if training else running
    if training:
        running = (1 - momentum) * batch + momentum * running
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@wrong("my_evonorm_b0", "looks_at_batch")
def still_looks(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3), correction=0)
    if training:
        running = (1 - momentum) * running + momentum * batch
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@wrong("my_evonorm_b0", "unbiased", "reversed_memory")
def evaluation_mended(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3)) if training else running
    if training:
        running = (1 - momentum) * batch + momentum * running
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@wrong("my_evonorm_b0", "unbiased", "looks_at_batch")
def memory_mended(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3))
    if training:
        running = (1 - momentum) * running + momentum * batch
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@wrong("my_evonorm_b0", "running_in_training")
def memory_used_at_once(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    if training:
        running = (1 - momentum) * running + momentum * x.var((0, 2, 3), correction=0)
    return b0(x, gamma, beta, v, running, image_variance(x), eps), running


@wrong("my_evonorm_b0", "always_updates")
def evaluation_updates(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    now = x.var((0, 2, 3), correction=0)
    new = (1 - momentum) * running + momentum * now
    return b0(x, gamma, beta, v, now if training else running, image_variance(x), eps), new


@wrong("my_evonorm_b0", "image_unbiased")
def image_default(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = x.var((0, 2, 3), correction=0) if training else running
    if training:
        running = (1 - momentum) * running + momentum * batch
    return b0(x, gamma, beta, v, batch, x.var((2, 3), keepdim=True), eps), running


@wrong("my_evonorm_b0", "smaller")
def minimum(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    _, new = with_moments(x, gamma, beta, v, running, training, momentum, eps)
    batch = x.var((0, 2, 3), correction=0) if training else running
    low = torch.minimum(torch.sqrt(column(batch) + eps), column(v) * x + torch.sqrt(image_variance(x) + eps))
    return column(gamma) * x / low + column(beta), new


@wrong("my_evonorm_b0", "centred")
def mean_subtracted(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    _, new = with_moments(x, gamma, beta, v, running, training, momentum, eps)
    batch = x.var((0, 2, 3), correction=0) if training else running
    centred = x - x.mean((0, 2, 3), keepdim=True)
    return b0(centred, gamma, beta, v, batch, image_variance(x), eps), new


@wrong("my_evonorm_b0", "in place")
def memory_in_place(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    batch = running
    if training:
        batch = x.var((0, 2, 3), correction=0)
        with torch.no_grad():
            running.mul_(1 - momentum).add_(momentum * batch)
    return b0(x, gamma, beta, v, batch, image_variance(x), eps), running


@wrong("my_evonorm_b0", "type")
def y_only(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    return with_moments(x, gamma, beta, v, running, training, momentum, eps)[0]


@wrong("my_evonorm_b0", "memory_lost")
def memory_not_kept(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    return with_moments(x, gamma, beta, v, running, training, momentum, eps)[0], running


# ------------------------------------------------------------------------------------------ my_sizes


@right("my_sizes")
def closed_form(place, depth, gain):
    n = torch.arange(depth + 1).double()
    return {
        "none": (1 + gain) ** n,
        "post": torch.ones_like(n),
        "pre": 1 + gain * n,
        "peri": 1 + n,
    }[place]


@right("my_sizes")
def branches(place, depth, gain):
    size = torch.ones(depth + 1)
    for i in range(depth):
        if place == "none":
            size[i + 1] = size[i] * (1 + gain)
        elif place == "pre":
            size[i + 1] = size[i] + gain
        elif place == "peri":
            size[i + 1] = size[i] + 1
    return size


@right("my_sizes")
def by_cumsum(place, depth, gain):
    if place == "post":
        return torch.ones(depth + 1)
    if place == "none":
        return torch.cumprod(torch.cat([torch.ones(1), torch.full((depth,), 1.0 + gain)]), 0)
    return torch.cumsum(
        torch.cat([torch.ones(1), torch.full((depth,), float(gain if place == "pre" else 1))]), 0
    )


@right("my_sizes")
def sizes_in_float32(where, layers, gain):
    return closed_form(where, layers, gain).float()


@right("my_sizes")
def roots_squared(place, depth, gain):
    x, out = 1.0, [1.0]
    for _ in range(depth):
        into = x if place in ("none", "post") else 1.0
        f = gain**0.5 * into
        f = f if place != "peri" else 1.0
        x = (x * x + f * f) ** 0.5 if place != "post" else 1.0
        out.append(x * x)
    return torch.tensor(out)


def grown(rule, depth):
    sizes = [1.0]
    for _ in range(depth):
        sizes.append(rule(sizes[-1]))
    return torch.tensor(sizes)


@wrong("my_sizes", "shape", "off by one", "start_missing")
def without_the_start(place, depth, gain):
    return closed_form(place, depth, gain)[1:]


@wrong("my_sizes", "gain_only")
def multiplied(place, depth, gain):
    rule = {
        "none": lambda s: s * gain,
        "post": lambda s: 1.0,
        "pre": lambda s: s + gain,
        "peri": lambda s: s + 1,
    }
    return grown(rule[place], depth)


@wrong("my_sizes", "peri_gain")
def peri_as_pre(place, depth, gain):
    return closed_form("pre" if place == "peri" else place, depth, gain)


@wrong("my_sizes", "pre_unnormalised")
def pre_as_none(place, depth, gain):
    return closed_form("none" if place == "pre" else place, depth, gain)


@wrong("my_sizes", "post_grows")
def post_as_none(place, depth, gain):
    return closed_form("none" if place == "post" else place, depth, gain)


@wrong("my_sizes", "post_as_peri")
def post_as_peri(place, depth, gain):
    return closed_form("peri" if place == "post" else place, depth, gain)


@wrong("my_sizes", "gain_squared", "squared gain")
def squared(place, depth, gain):
    return closed_form(place, depth, gain**2)


@wrong("my_sizes", "lengths_added")
def lengths(place, depth, gain):
    g = gain**0.5
    rule = {
        "none": lambda s: s * (1 + g) ** 2,
        "post": lambda s: 1.0,
        "pre": lambda s: (s**0.5 + g) ** 2,
        "peri": lambda s: (s**0.5 + 1) ** 2,
    }
    return grown(rule[place], depth)


@wrong("my_sizes", "pre_constant", "value")
def pre_always_one(place, depth, gain):
    n = torch.arange(depth + 1)
    return torch.where(n > 0, 1.0 + gain, 1.0) if place == "pre" else closed_form(place, depth, gain)


@wrong("my_sizes", "peri_constant", "value")
def peri_stays(place, depth, gain):
    return torch.ones(depth + 1) if place == "peri" else closed_form(place, depth, gain)


@wrong("my_sizes", "roots", "no square")
def root_of_size(place, depth, gain):
    return closed_form(place, depth, gain).sqrt()


@wrong("my_sizes", "exception", "type")
def only_two_places(place, depth, gain):
    if place == "none":
        return closed_form(place, depth, gain)
    if place == "pre":
        return closed_form(place, depth, gain)


@wrong("my_sizes", "type")
def a_list(place, depth, gain):
    return closed_form(place, depth, gain).tolist()


# ------------------------------------------------------------------------------------------ my_turns


def parts(place, depth, gain):
    n = torch.arange(depth).double()
    before = {"none": (1 + gain) ** n, "post": n * 0 + 1, "pre": 1 + gain * n, "peri": 1 + n}[place]
    added = {"none": gain * before, "post": gain * before, "pre": n * 0 + gain, "peri": n * 0 + 1}[place]
    return before, added


@right("my_turns")
def atan2(place, depth, gain):
    before, added = parts(place, depth, gain)
    return torch.atan2(added.sqrt(), before.sqrt()) * 180 / math.pi


@right("my_turns")
def acos(place, depth, gain):
    before, added = parts(place, depth, gain)
    return torch.acos((before / (before + added)).sqrt()).rad2deg()


@right("my_turns")
def by_place(place, depth, gain):
    if place in ("none", "post"):
        return torch.full((depth,), math.degrees(math.atan(gain**0.5)))
    return torch.tensor(
        [
            math.degrees(
                math.atan((gain / (1 + gain * i)) ** 0.5 if place == "pre" else (1 / (1 + i)) ** 0.5)
            )
            for i in range(depth)
        ]
    )


@right("my_turns")
def asin(where, layers, gain):
    before, added = parts(where, layers, gain)
    return torch.rad2deg(torch.asin(torch.sqrt(added / (added + before))))


@right("my_turns")
def turns_in_float32(place, depth, gain):
    before, added = parts(place, depth, gain)
    return (added / before).float().sqrt().atan().rad2deg()


@wrong("my_turns", "radians")
def in_radians(place, depth, gain):
    before, added = parts(place, depth, gain)
    return torch.atan((added / before).sqrt())


@wrong("my_turns", "no_root")
def of_squares(place, depth, gain):
    before, added = parts(place, depth, gain)
    return torch.atan(added / before).rad2deg()


@wrong("my_turns", "upside_down")
def other_angle(place, depth, gain):
    before, added = parts(place, depth, gain)
    return torch.atan((before / added).sqrt()).rad2deg()


@wrong("my_turns", "sine")
def asin_of_ratio(place, depth, gain):
    before, added = parts(place, depth, gain)
    return torch.asin((added / before).sqrt().clamp(max=1)).rad2deg()


@wrong("my_turns", "size_after")
def compared_with_after(place, depth, gain):
    before, added = parts(place, depth, gain)
    return torch.atan((added / (before + added)).sqrt()).rad2deg()


@wrong("my_turns", "one_late")
def one_layer_late(place, depth, gain):
    after = closed_form(place, depth, gain)[1:]
    _, added = parts(place, depth, gain)
    added = gain * after if place in ("none", "post") else added
    return torch.atan((added / after).sqrt()).rad2deg()


@wrong("my_turns", "peri_gain")
def gain_in_peri(place, depth, gain):
    return acos("pre" if place == "peri" else place, depth, gain)


@wrong("my_turns", "pre_constant")
def gain_times_stream(place, depth, gain):
    before, _ = parts(place, depth, gain)
    added = torch.ones_like(before) if place == "peri" else gain * before
    return torch.atan((added / before).sqrt()).rad2deg()


@wrong("my_turns", "from_start", "value")
def away_from_start(place, depth, gain):
    sizes = closed_form(place, depth, gain)[1:]
    return torch.acos(1 / sizes.sqrt()).rad2deg()


@wrong("my_turns", "no_tangent", "value")
def ratio_for_angle(place, depth, gain):
    before, added = parts(place, depth, gain)
    return (added / before).sqrt().rad2deg()


@wrong("my_turns", "shape", "off by one", "start_too")
def one_too_many(place, depth, gain):
    return acos(place, depth + 1, gain)


@wrong("my_turns", "post_added_one", "value")
def post_as_peri_turns(place, depth, gain):
    if place == "post":
        return torch.full((depth,), 45.0)
    return acos(place, depth, gain)


@wrong("my_turns", "post_stream_grows", "value")
def post_grows(place, depth, gain):
    before, added = parts(place, depth, gain)
    if place == "post":
        before, added = closed_form("pre", depth, gain)[:-1], torch.full_like(before, gain)
    return torch.atan((added / before).sqrt()).rad2deg()


@wrong("my_turns", "cosine", "value")
def cosine_without_root(place, depth, gain):
    before, added = parts(place, depth, gain)
    return torch.acos(before / (before + added)).rad2deg()


# --------------------------------------------------------------------------------------- my_lost_key


@right("my_lost_key")
def on_a_circle():
    angles = torch.arange(5) * 2 * math.pi / 5
    return torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([[1.0], [0.3]])


@right("my_lost_key")
def from_three_to_two():
    keys = torch.cat([torch.eye(3), -torch.eye(3)]) + 0.0
    keys = torch.cat([keys, torch.tensor([[0.6, 0.0, 0.8]])])
    return keys, torch.eye(3)[:, :2] + 0.01


@right("my_lost_key")
def random_head():
    torch.manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(40, 4), dim=1)
    return keys, torch.randn(4, 2)


@right("my_lost_key")
def square_but_flat():
    keys = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    return keys, torch.tensor([[1.0, 0.0], [0.0, 0.0]])


@wrong("my_lost_key", "value")
def stretched():
    keys = torch.nn.functional.normalize(torch.randn(20, 2), dim=1)
    return keys, torch.diag(torch.tensor([100.0, 0.01]))


@wrong("my_lost_key", "value")
def not_of_one_length():
    return torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), torch.eye(2)


@wrong("my_lost_key", "value")
def all_to_zero():
    return torch.eye(3), torch.zeros(3, 2)


@wrong("my_lost_key", "value")
def twins():
    return torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.eye(2)


@wrong("my_lost_key", "value")
def two_coincide():
    return torch.tensor([[0.6, 0.8], [0.6, -0.8], [-1.0, 0.0]]), torch.tensor([[1.0], [0.0]])


@wrong("my_lost_key", "value")
def only_two_keys():
    return torch.eye(2), torch.tensor([[1.0], [0.0]])


@wrong("my_lost_key", "value", "type")
def does_not_fit():
    return torch.eye(3), torch.ones(2, 1)


@wrong("my_lost_key", "value", "type")
def only_keys():
    return torch.eye(3)


# ------------------------------------------------------------------------------------------- my_step


@right("my_step")
def with_pythagoras(length, lr, unit_gradient):
    g = unit_gradient / length
    new = math.sqrt(length**2 + lr**2 * g**2)
    return new, math.degrees(math.acos(length / new))


@right("my_step")
def with_torch(length, lr, unit_gradient):
    moved = torch.tensor(lr * unit_gradient / length)
    return torch.hypot(torch.tensor(length), moved).item(), torch.rad2deg(torch.atan(moved / length)).item()


@right("my_step")
def as_scalars(length, lr, unit_gradient):
    moved = torch.as_tensor(lr * unit_gradient / length)
    return (length**2 + moved**2).sqrt(), torch.atan2(moved, torch.as_tensor(length)) * 180 / torch.pi


@right("my_step")
def complex_plane(l, eta, g):
    z = complex(l, eta * g / l)
    return abs(z), math.atan2(z.imag, z.real) / math.pi * 180


@right("my_step")
def in_the_plane(length, lr, unit_gradient):
    w, gradient = torch.tensor([length, 0.0]), torch.tensor([0.0, unit_gradient / length])
    new = w - lr * gradient
    return [new.norm(), torch.rad2deg(torch.asin((lr * gradient).norm() / new.norm()))]


@wrong("my_step", "gradient_not_scaled")
def gradient_everywhere_the_same(length, lr, unit_gradient):
    moved = lr * unit_gradient
    return math.hypot(length, moved), math.degrees(math.atan(moved / length))


@wrong("my_step", "gradient_grows")
def longer_gradient(length, lr, unit_gradient):
    moved = lr * unit_gradient * length
    return math.hypot(length, moved), math.degrees(math.atan(moved / length))


@wrong("my_step", "gradient_square")
def gradient_over_square(length, lr, unit_gradient):
    moved = lr * unit_gradient / length**2
    return math.hypot(length, moved), math.degrees(math.atan(moved / length))


@wrong("my_step", "shrinks_along")
def subtracted(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return length - moved, math.degrees(math.atan(moved / length))


@wrong("my_step", "added")
def lengths_added(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return length + moved, math.degrees(math.atan(moved / length))


@wrong("my_step", "radians")
def radians(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return math.hypot(length, moved), math.atan(moved / length)


@wrong("my_step", "sine")
def sine(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return math.hypot(length, moved), math.degrees(math.asin(min(1.0, moved / length)))


@wrong("my_step", "small_angle")
def small_angle(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return math.hypot(length, moved), math.degrees(moved / length)


@wrong("my_step", "upside_down")
def other_way(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return math.hypot(length, moved), math.degrees(math.atan(length / moved))


@wrong("my_step", "squared_length", "value")
def root_forgotten(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return length**2 + moved**2, math.degrees(math.atan(moved / length))


@wrong("my_step", "minus_under_root")
def minus_under_root(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return math.sqrt(abs(length**2 - moved**2)), math.degrees(math.atan(moved / length))


@wrong("my_step", "length_kept")
def length_kept(length, lr, unit_gradient):
    return length, math.degrees(math.atan(lr * unit_gradient / length**2))


@wrong("my_step", "value", "exchanged")
def wrong_order(length, lr, unit_gradient):
    moved = lr * unit_gradient / length
    return math.degrees(math.atan(moved / length)), math.hypot(length, moved)


@wrong("my_step", "gradient_not_scaled", "radians")
def both(length, lr, unit_gradient):
    moved = lr * unit_gradient
    return math.hypot(length, moved), math.atan(moved / length)


@wrong("my_step", "lr_squared", "value")
def lr_not_squared(length, lr, unit_gradient):
    moved = unit_gradient / length
    return math.sqrt(length**2 + lr * moved**2), math.degrees(math.atan(lr * moved / length))


@wrong("my_step", "type")
def length_only(length, lr, unit_gradient):
    return math.hypot(length, lr * unit_gradient / length)


# ------------------------------------------- written by somebody who knew the statements only


def _evonorm(x, gamma, beta, running, training, momentum, eps, *, batch, second):
    gamma, beta = gamma[:, None, None], beta[:, None, None]
    running = (1 - momentum) * running + momentum * batch if training else running
    over_batch = torch.sqrt((batch if training else running) + eps)[:, None, None]
    return gamma * x / torch.maximum(over_batch, second) + beta, running


@wrong("my_evonorm_b0", "inside_root")
def all_under_the_root(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    second = torch.sqrt(v[:, None, None] * x + x.var((2, 3), keepdim=True, correction=0) + eps)
    batch = x.var((0, 2, 3), correction=0)
    return _evonorm(x, gamma, beta, running, training, momentum, eps, batch=batch, second=second)


@wrong("my_evonorm_b0", "image_over_channels")
def whole_image(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    second = v[:, None, None] * x + torch.sqrt(x.var((1, 2, 3), keepdim=True, correction=0) + eps)
    batch = x.var((0, 2, 3), correction=0)
    return _evonorm(x, gamma, beta, running, training, momentum, eps, batch=batch, second=second)


@wrong("my_evonorm_b0", "batch_not_centred")
def squares_of_x(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    second = v[:, None, None] * x + torch.sqrt(x.var((2, 3), keepdim=True, correction=0) + eps)
    batch = (x**2).mean((0, 2, 3))
    return _evonorm(x, gamma, beta, running, training, momentum, eps, batch=batch, second=second)


@wrong("my_fold", "eta_alone")
def eta_added(weight, bias, g, b, mean, var, eta, eps=1e-5):
    s = g / torch.sqrt(var + eps)
    return s[:, None] * weight + eta, s * (bias - mean) + b + eta * bias


@wrong("my_turns", "post_from_sizes")
def sizes_before_and_after(place, depth, gain):
    layer = torch.arange(depth + 1, dtype=torch.float32)
    sizes = {
        "none": (1 + gain) ** layer,
        "post": torch.ones(depth + 1),
        "pre": 1 + gain * layer,
        "peri": 1 + layer,
    }[place]
    return torch.rad2deg(torch.acos(torch.sqrt(sizes[:-1] / sizes[1:])))


@wrong("my_project_backward", "over_number_of_rows")
def number_of_rows(dy):
    return dy - dy.sum(-1, keepdim=True) / dy.shape[0]


@wrong("my_scale_backward", "deviation")
def deviation_for_radius(dy, x, eps=1e-5):
    r = torch.sqrt(x.var(-1, keepdim=True, correction=0) + eps)
    return (dy - x / r * (dy * x / r).mean(-1, keepdim=True)) / r
