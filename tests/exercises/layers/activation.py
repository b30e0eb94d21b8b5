"""Answers to the exercises on activation functions."""

import math

import torch
from torch.nn import functional as F

from course_lib.layers.activation import bspline_basis
from tests.exercises.corpus import Corpus

corpus = Corpus("layers/activation")
right, wrong = corpus.right, corpus.wrong


# ----------------------------------------------------------------------------------- my_gated_width


@right("my_gated_width")
def floor_division(hidden):
    return hidden * 2 // 3


@right("my_gated_width")
def math_floor(h):
    return math.floor(2 * h / 3 + 1e-9)


@right("my_gated_width")
def searched(hidden):
    width = 0
    while 3 * (width + 1) <= 2 * hidden:
        width += 1
    return width


@right("my_gated_width")
def taken_off(hidden):
    return hidden - -(-hidden // 3)


@right("my_gated_width")
def as_tensor(hidden):
    return torch.tensor(2 * hidden) // 3


@wrong("my_gated_width", "not_whole")
def fraction(hidden):
    return 2 * hidden / 3


@wrong("my_gated_width", "rounded")
def nearest(hidden):
    return round(hidden * 2 / 3)


@wrong("my_gated_width", "rounded_up")
def ceiling(hidden):
    return math.ceil(2 * hidden / 3)


@wrong("my_gated_width", "half")
def halved(hidden):
    return hidden // 2


@wrong("my_gated_width", "same")
def unchanged(hidden):
    return hidden


@wrong("my_gated_width", "upside_down")
def larger(hidden):
    return hidden * 3 // 2


@wrong("my_gated_width", "value")
def third(hidden):
    return hidden // 3


@wrong("my_gated_width", "value", "offset")
def one_less(hidden):
    return 2 * hidden // 3 - 1


@wrong("my_gated_width", "exception")
def two_arguments(hidden, dim):
    return hidden * dim


@wrong("my_gated_width", "type")
def a_sentence(hidden):
    return str(2 * hidden // 3)


# ------------------------------------------------------------------------------------------- my_celu


@right("my_celu")
def clamped(x, alpha):
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha))


@right("my_celu")
def sum_of_both(x, alpha):
    return F.relu(x) + alpha * ((torch.minimum(x, torch.zeros_like(x)) / alpha).exp() - 1)


@right("my_celu")
def max_and_min(x, alpha):
    return x.clamp(min=0) + alpha * torch.expm1(x.clamp(max=0) / alpha)


@right("my_celu")
def masked(x, alpha):
    low = torch.where(x <= 0, x, 0)
    return torch.where(x <= 0, alpha * (torch.exp(low / alpha) - 1), x)


@right("my_celu")
def out_of_place(values, alpha):
    out = values.clone()
    negative = values <= 0
    out[negative] = alpha * torch.expm1(values[negative] / alpha)
    return out


@wrong("my_celu", "overflow", "nan")
def unclamped(x, alpha):
    return torch.where(x > 0, x, alpha * (torch.exp(x / alpha) - 1))


@wrong("my_celu", "as_elu")
def elu(x, alpha):
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


@wrong("my_celu", "outer_alpha")
def alpha_inside_only(x, alpha):
    return torch.where(x > 0, x, torch.expm1(x.clamp(max=0) / alpha))


@wrong("my_celu", "no_minus_one")
def exponential(x, alpha):
    return torch.where(x > 0, x, alpha * torch.exp(x.clamp(max=0) / alpha))


@wrong("my_celu", "zero_left")
def relu(x, alpha):
    return x.relu()


@wrong("my_celu", "rule")
def library(x, alpha):
    return F.celu(x, alpha)


@wrong("my_celu", "branches_exchanged")
def exchanged(x, alpha):
    return torch.where(x < 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha))


@wrong("my_celu", "in place")
def in_place(x, alpha):
    x[x <= 0] = alpha * torch.expm1(x[x <= 0] / alpha)
    return x


@wrong("my_celu", "exception", "value")
def python_if(x, alpha):
    return x if x > 0 else alpha * torch.expm1(x / alpha)


@wrong("my_celu", "as_elu", "overflow", "nan")
def elu_unclamped(x, alpha):
    return torch.where(x > 0, x, alpha * (x.exp() - 1))


@wrong("my_celu", "value", "inverse alpha")
def times_alpha(x, alpha):
    return torch.where(x > 0, x, torch.expm1(x.clamp(max=0) * alpha) / alpha)


# ------------------------------------------------------------------------------------------- my_mish


@right("my_mish")
def with_softplus(x):
    return x * torch.tanh(F.softplus(x))


@right("my_mish")
def with_logaddexp(x):
    return x * torch.logaddexp(x, torch.zeros_like(x)).tanh()


@right("my_mish")
def with_logsigmoid(x):
    return x * torch.tanh(-F.logsigmoid(-x))


@right("my_mish")
def rational(x):
    e = torch.exp(-x.abs())
    n = torch.where(x > 0, 1 + 2 * e, e * e + 2 * e)
    d = torch.where(x > 0, 1 + 2 * e + 2 * e * e, e * e + 2 * e + 2)
    return x * n / d


@right("my_mish")
def single_precision(x):
    return (x.float() * F.softplus(x.float()).tanh()).to(x.dtype)


@wrong("my_mish", "overflow", "nan")
def naive(x):
    return x * torch.tanh(torch.log(1 + torch.exp(x)))


@wrong("my_mish", "swish")
def silu(x):
    return x * torch.sigmoid(x)


@wrong("my_mish", "no_tanh")
def softplus_gate(x):
    return x * F.softplus(x)


@wrong("my_mish", "no_x")
def gate_alone(x):
    return F.softplus(x).tanh()


@wrong("my_mish", "log_only")
def tanh_gate(x):
    return x * torch.tanh(x)


@wrong("my_mish", "rule")
def library_mish(x):
    return F.mish(x)


@wrong("my_mish", "no_logarithm", "nan")
def tanh_of_exp(x):
    return x * torch.tanh(1 + torch.exp(x.clamp(max=20)))


@wrong("my_mish", "value")
def with_log1p_of_x(x):
    return x * torch.tanh(torch.log1p(x.clamp(min=0)))


@wrong("my_mish", "gradient")
def detached(x):
    return with_softplus(x.detach())


@wrong("my_mish", "sign")
def negative(x):
    return -with_softplus(x)


@wrong("my_mish", "value", "nan")
def clamped_at_five(x):
    return x * torch.tanh(torch.log(1 + torch.exp(x.clamp(-5, 0.2))))


# ---------------------------------------------------------------------------------- my_falling_step


@right("my_falling_step")
def far_left():
    return -2.5, -1.5


@right("my_falling_step")
def as_tensors():
    return torch.tensor(-3.0), torch.tensor(-1.3)


@wrong("my_falling_step", "value")
def rising():
    return 0.0, 1.0


@wrong("my_falling_step", "value")
def around_the_minimum():
    return -1.5, -0.5


@wrong("my_falling_step", "value")
def exchanged_numbers():
    return -1.5, -2.5


@wrong("my_falling_step", "value")
def too_far():
    return -10.0, -2.0


@wrong("my_falling_step", "value", "type")
def one_number():
    return -1.5


# --------------------------------------------------------------------------------- my_topk_backward


def hot(x, k, dim=-1):
    return torch.zeros_like(x).scatter(dim, x.topk(k, dim=dim).indices, 1.0)


@right("my_topk_backward")
def scattered(dy, x, k):
    return dy * hot(x, k) * (x > 0)


@right("my_topk_backward")
def sorted_rows(dy, x, k):
    rank = (-x).argsort(-1).argsort(-1)
    return torch.where((rank < k) & (x > 0), dy, 0)


@right("my_topk_backward")
def row_by_row(dy, x, k):
    rows = []
    for d, row in zip(dy, x, strict=True):
        last = row.sort(descending=True).values[k - 1]
        rows.append(d * ((row >= last) & (row > 0)))
    return torch.stack(rows)


@right("my_topk_backward")
def after_relu(dy, x, k):
    values, indices = x.relu().topk(k, dim=1)
    return torch.zeros_like(dy).scatter(1, indices, dy.gather(1, indices) * (values > 0))


@right("my_topk_backward")
def kth_value(dy, x, k):
    bound = x.kthvalue(x.shape[1] - k + 1, dim=1, keepdim=True).values
    return dy * torch.logical_and(x >= bound, x > 0).to(dy)


@wrong("my_topk_backward", "of_relu")
def relu_backward(dy, x, k):
    return dy * (x > 0)


@wrong("my_topk_backward", "without_relu")
def no_relu(dy, x, k):
    return dy * hot(x, k)


@wrong("my_topk_backward", "top_gradients")
def largest_gradients(dy, x, k):
    return dy * hot(dy, k) * (x > 0)


@wrong("my_topk_backward", "by_size")
def largest_sizes(dy, x, k):
    return dy * hot(x.abs(), k) * (x > 0)


@wrong("my_topk_backward", "last_lost")
def strictly_above(dy, x, k):
    return dy * (x > x.topk(k, dim=-1).values[:, -1:]) * (x > 0)


@wrong("my_topk_backward", "of_batch")
def whole_batch(dy, x, k):
    return dy * (x >= x.flatten().topk(k).values[-1]) * (x > 0)


@wrong("my_topk_backward", "rule")
def by_autograd(dy, x, k):
    def forward(x):
        return torch.where(hot(x, k) > 0, x.relu(), 0.0)

    return torch.func.vjp(forward, x)[1](dy)[0]


@wrong("my_topk_backward", "values_too")
def times_x(dy, x, k):
    return dy * x * hot(x, k) * (x > 0)


@wrong("my_topk_backward", "ignored dy", "dtype")
def mask_only(dy, x, k):
    return hot(x, k) * (x > 0)


@wrong("my_topk_backward", "smallest")
def wrong_end(dy, x, k):
    return dy * hot(-x, k) * (x > 0)


@wrong("my_topk_backward", "shape")
def only_kept(dy, x, k):
    return dy.gather(-1, x.topk(k, dim=-1).indices)


# ------------------------------------------------------------------------------------------ my_forms


@right("my_forms")
def symmetrised(w1, w2, out):
    form = torch.einsum("ok,ki,kj->oij", out, w1, w2)
    return 0.5 * (form + form.transpose(1, 2))


@right("my_forms")
def matrix_products(w1, w2, out):
    form = torch.stack([w1.T @ torch.diag(row) @ w2 for row in out])
    return (form + form.mT) / 2


@right("my_forms")
def neuron_by_neuron(w1, w2, out):
    total = torch.zeros(len(out), w1.shape[1], w1.shape[1])
    for k in range(len(w1)):
        pair = torch.outer(w1[k], w2[k])
        total = total + out[:, k, None, None] * (pair + pair.T) / 2
    return total


@right("my_forms")
def both_orders(w1, w2, out):
    return (torch.einsum("ok,ki,kj->oij", out, w1, w2) + torch.einsum("ok,kj,ki->oij", out, w1, w2)) / 2


@right("my_forms")
def by_polarisation(w1, w2, out):
    plus, minus = w1 + w2, w1 - w2
    return (
        torch.einsum("ok,ki,kj->oij", out, plus, plus) - torch.einsum("ok,ki,kj->oij", out, minus, minus)
    ) / 4


@wrong("my_forms", "not_symmetric")
def as_it_comes(w1, w2, out):
    return torch.einsum("ok,ki,kj->oij", out, w1, w2)


@wrong("my_forms", "value")
def turned(w1, w2, out):
    return torch.einsum("ok,ki,kj->oji", out, w1, w2)


@wrong("my_forms", "not_halved", "factor")
def doubled(w1, w2, out):
    form = torch.einsum("ok,ki,kj->oij", out, w1, w2)
    return form + form.mT


@wrong("my_forms", "sums_first")
def two_sums(w1, w2, out):
    form = torch.einsum("ok,ki,lj->oij", out, w1, w2)
    return (form + form.mT) / 2


@wrong("my_forms", "antisymmetric")
def difference(w1, w2, out):
    form = torch.einsum("ok,ki,kj->oij", out, w1, w2)
    return (form - form.mT) / 2


@wrong("my_forms", "one_matrix")
def w1_twice(w1, w2, out):
    return torch.einsum("ok,ki,kj->oij", out, w1, w1)


@wrong("my_forms", "no_out", "ignored out", "shape", "exception")
def without_out(w1, w2, out):
    form = torch.einsum("ki,kj->ij", w1, w2)
    return ((form + form.mT) / 2).expand(len(out), -1, -1)


@wrong("my_forms", "shape")
def summed_outputs(w1, w2, out):
    return symmetrised(w1, w2, out).sum(0)


@wrong("my_forms", "exception")
def wrong_letters(w1, w2, out):
    return torch.einsum("ok,ik,jk->oij", out, w1, w2)


@wrong("my_forms", "value")
def lower_triangle(w1, w2, out):
    return 2 * symmetrised(w1, w2, out).tril()


# ---------------------------------------------------------------------------------------- my_rebuilt


@right("my_rebuilt")
def gathered(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    top = values.abs().topk(r, dim=-1).indices
    kept = values.gather(-1, top)
    projections = torch.einsum("ni,ois->ons", x, vectors)
    projections = projections.gather(-1, top[:, None].expand(-1, len(x), -1))
    return torch.einsum("os,ons->no", kept, projections**2)


@right("my_rebuilt")
def output_by_output(forms, x, r):
    columns = []
    for form in forms:
        values, vectors = torch.linalg.eigh(form)
        order = values.abs().argsort(descending=True)[:r]
        columns.append(((x @ vectors[:, order]) ** 2) @ values[order])
    return torch.stack(columns, 1)


@right("my_rebuilt")
def small_matrix(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    rank = values.abs().argsort(-1, descending=True).argsort(-1)
    kept = torch.where(rank < r, values, 0.0)
    low = vectors @ torch.diag_embed(kept) @ vectors.mT
    return torch.einsum("ni,oij,nj->no", x, low, x)


@right("my_rebuilt")
def eigenvector_by_eigenvector(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    top = values.abs().topk(r).indices
    total = 0
    for s in range(r):
        v = torch.stack([vectors[o, :, top[o, s]] for o in range(len(forms))])
        total = total + torch.stack([values[o, top[o, s]] for o in range(len(forms))]) * (x @ v.T) ** 2
    return total


@right("my_rebuilt")
def both_ends(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    bound = values.abs().sort(-1, descending=True).values[:, r - 1 : r]
    kept = values * (values.abs() >= bound)
    return (kept[:, None] * (x @ vectors).square()).sum(-1).mT


@wrong("my_rebuilt", "by_signed_value")
def largest_values(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    return torch.einsum("os,ons->no", values[:, -r:], (x @ vectors[:, :, -r:]) ** 2)


@wrong("my_rebuilt", "rows_for_columns")
def rows(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    kept = values * hot(values.abs(), r)
    return torch.einsum("os,ons->no", kept, (x @ vectors.mT) ** 2)


@wrong("my_rebuilt", "not_squared")
def linear(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    return torch.einsum("os,ons->no", values * hot(values.abs(), r), x @ vectors)


@wrong("my_rebuilt", "absolute_in_the_sum")
def absolute(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    return torch.einsum("os,ons->no", values.abs() * hot(values.abs(), r), (x @ vectors) ** 2)


@wrong("my_rebuilt", "smallest")
def first_ones(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    return torch.einsum("os,ons->no", values * hot(-values.abs(), r), (x @ vectors) ** 2)


@wrong("my_rebuilt", "no_values")
def unweighted(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    return torch.einsum("os,ons->no", hot(values.abs(), r), (x @ vectors) ** 2)


@wrong("my_rebuilt", "shape", "transposed", "axes in another order", "value")
def outputs_first(forms, x, r):
    return gathered(forms, x, r).T


@wrong("my_rebuilt", "ignored r", "value")
def everything(forms, x, r):
    return torch.einsum("ni,oij,nj->no", x, forms, x)


@wrong("my_rebuilt", "no_values", "by_signed_value")
def two_slips(forms, x, r):
    _, vectors = torch.linalg.eigh(forms)
    return (x @ vectors[:, :, -r:]).square().sum(-1).mT


@wrong("my_rebuilt", "exception", "value", "shape")
def broadcast_slip(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    return (values * hot(values.abs(), r) * (x @ vectors) ** 2).sum(-1).mT


# ------------------------------------------------------------------------------------- my_token_test


def answers(layer, x, order, *, permuted=True, tokens=None, seen="others"):
    with torch.no_grad():
        y = layer(x)
        blind = torch.allclose(layer(x[:, order]), y[:, order] if permuted else y, atol=1e-8)
        meet = False
        for t in range(x.shape[1]) if tokens is None else tokens:
            changed = x.clone()
            changed[:, t] += 1
            z = layer(changed)
            keep = [s for s in range(x.shape[1]) if seen == "all" or s != t % x.shape[1]]
            meet = meet or not torch.allclose(z[:, keep], y[:, keep], atol=1e-8)
    return [blind, meet]


@right("my_token_test")
def mended(layer, x, order):
    return answers(layer, x, order)


@right("my_token_test")
def by_jacobian(layer, x, order):
    y = layer(x)
    blind = torch.allclose(layer(x[:, order]), y[:, order], atol=1e-8)
    meet = False
    for t in range(x.shape[1]):
        leaf = x.clone().requires_grad_()
        layer(leaf)[:, t].sum().backward()
        others = torch.arange(x.shape[1]) != t
        meet |= bool(leaf.grad[:, others].abs().max() > 1e-8)
    return (blind, meet)


@right("my_token_test")
def token_pairs(layer, x, order):
    with torch.no_grad():
        y = layer(x)
        blind = bool((layer(x[:, order]) - y[:, order]).abs().max() < 1e-8)
        for t in range(x.shape[1]):
            for s in range(x.shape[1]):
                changed = x.clone()
                changed[:, t] = changed[:, t] - 2
                if s != t and (layer(changed)[:, s] - y[:, s]).abs().max() > 1e-8:
                    return [blind, True]
    return [blind, False]


@right("my_token_test")
def all_others_changed(layer, x, order):
    with torch.no_grad():
        y = layer(x)
        blind = torch.allclose(layer(x[:, order]), y[:, order], atol=1e-8)
        meet = False
        for t in range(x.shape[1]):
            noise = torch.randn_like(x)
            noise[:, t] = 0
            meet = meet or not torch.allclose(layer(x + noise)[:, t], y[:, t], atol=1e-8)
    return [blind, meet]


@right("my_token_test")
def numpy_booleans(layer, x, order):
    import numpy as np

    blind, meet = answers(layer, x, order)
    return [np.bool_(blind), np.bool_(meet)]


@wrong("my_token_test", "invariant", "last_changed_only")
def as_given(layer, x, order):
    return answers(layer, x, order, permuted=False, tokens=[-1])


@wrong("my_token_test", "last_changed_only")
def last_only(layer, x, order):
    return answers(layer, x, order, tokens=[-1])


@wrong("my_token_test", "invariant")
def not_permuted(layer, x, order):
    return answers(layer, x, order, permuted=False)


@wrong("my_token_test", "looks_at_itself")
def whole_output(layer, x, order):
    return answers(layer, x, order, seen="all")


@wrong("my_token_test", "upside_down")
def opposite(layer, x, order):
    blind, meet = answers(layer, x, order)
    return [blind, not meet]


@wrong("my_token_test", "answers_exchanged")
def meet_first(layer, x, order):
    return answers(layer, x, order)[::-1]


@wrong("my_token_test", "first_looked_at", "value")
def neighbour_only(layer, x, order):
    with torch.no_grad():
        y = layer(x)
        blind = torch.allclose(layer(x[:, order]), y[:, order], atol=1e-8)
        meet = False
        for t in range(x.shape[1]):
            changed = x.clone()
            changed[:, t] += 1
            s = 1 if t == 0 else 0
            meet |= not torch.allclose(layer(changed)[:, s], y[:, s], atol=1e-8)
    return [blind, meet]


@wrong("my_token_test", "in place", "value")
def changes_x(layer, x, order):
    with torch.no_grad():
        y = layer(x)
        blind = torch.allclose(layer(x[:, order]), y[:, order], atol=1e-8)
        x[:, 0] += 1
        meet = not torch.allclose(layer(x)[:, 1:], y[:, 1:], atol=1e-8)
    return [blind, meet]


@wrong("my_token_test", "exception")
def one_answer(layer, x, order):
    return answers(layer, x, order)[0]


@wrong("my_token_test", "value", "type", "dtype")
def first_token_only(layer, x, order):
    return answers(layer, x, order, tokens=[0])


# ---------------------------------------------------------------------------------- my_bspline_slope


@right("my_bspline_slope")
def sliced(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    gaps = knots[degree:] - knots[:-degree]
    scaled = degree * lower / gaps
    return scaled[:, :-1] - scaled[:, 1:]


@right("my_bspline_slope")
def spline_by_spline(x, knots, degree):
    lower, columns = bspline_basis(x, knots, degree - 1), []
    for g in range(len(knots) - degree - 1):
        rise = degree / (knots[g + degree] - knots[g]) * lower[:, g]
        fall = degree / (knots[g + degree + 1] - knots[g + 1]) * lower[:, g + 1]
        columns.append(rise - fall)
    return torch.stack(columns, dim=1)


@right("my_bspline_slope")
def by_diff(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    return -(degree * lower / (knots[degree:] - knots[:-degree])).diff(dim=1)


@right("my_bspline_slope")
def by_matrix(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    n = lower.shape[1]
    change = torch.eye(n)[:, :-1] - torch.eye(n)[:, 1:]
    return lower @ (change * (degree / (knots[degree:] - knots[:-degree]))[:, None])


@right("my_bspline_slope")
def named(points, t, p):
    b = bspline_basis(points, t, p - 1)
    k = len(t) - p - 1
    left, right_ = t[p : p + k] - t[:k], t[p + 1 : p + 1 + k] - t[1 : 1 + k]
    return p * b[:, :k] / left - p * b[:, 1 : k + 1] / right_


@wrong("my_bspline_slope", "no_degree")
def without_p(x, knots, degree):
    return sliced(x, knots, degree) / degree


@wrong("my_bspline_slope", "sum_of_both")
def plus(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    scaled = degree * lower / (knots[degree:] - knots[:-degree])
    return scaled[:, :-1] + scaled[:, 1:]


@wrong("my_bspline_slope", "no_lengths")
def undivided(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    return degree * (lower[:, :-1] - lower[:, 1:])


@wrong("my_bspline_slope", "negative", "sign")
def downwards(x, knots, degree):
    return -sliced(x, knots, degree)


@wrong("my_bspline_slope", "first_only")
def rise_only(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    return degree * lower[:, :-1] / (knots[degree:-1] - knots[: -degree - 1])


@wrong("my_bspline_slope", "same_length")
def one_length(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    return degree * (lower[:, :-1] - lower[:, 1:]) / (knots[degree:-1] - knots[: -degree - 1])


@wrong("my_bspline_slope", "rule")
def autograd(x, knots, degree):
    columns = []
    for g in range(len(knots) - degree - 1):
        columns.append(torch.func.grad(lambda x, g=g: bspline_basis(x, knots, degree)[:, g].sum())(x))
    return torch.stack(columns, 1)


@wrong("my_bspline_slope", "exception", "shape")
def same_degree(x, knots, degree):
    basis = bspline_basis(x, knots, degree)
    return degree * (basis[:, :-1] - basis[:, 1:])


@wrong("my_bspline_slope", "exception")
def off_slices(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    return degree * (lower[:, :-1] / (knots[degree:] - knots[:-degree]) - lower[:, 1:])


@wrong("my_bspline_slope", "shape", "off by one")
def one_too_many(x, knots, degree):
    lower = bspline_basis(x, knots, degree - 1)
    return degree * lower / (knots[degree:] - knots[:-degree])


@wrong("my_bspline_slope", "no_degree", "sum_of_both")
def two_at_once(x, knots, degree):
    return plus(x, knots, degree) / degree


# ---------------------------------------------------------------------------------------- my_network


@right("my_network")
def matrices(x, w1, b1, w2, activation):
    return activation(x @ w1.T + b1) @ w2.T


@right("my_network")
def linear_functions(x, w1, b1, w2, activation):
    return F.linear(activation(F.linear(x, w1, b1)), w2)


@right("my_network")
def einsums(x, w1, b1, w2, activation):
    hidden = activation(torch.einsum("ni,hi->nh", x, w1) + b1)
    return torch.einsum("nh,oh->no", hidden, w2)


@right("my_network")
def sample_by_sample(x, w1, b1, w2, activation):
    return torch.stack([w2 @ activation(w1 @ row + b1) for row in x])


@right("my_network")
def addmm(x, w1, b1, w2, f):
    return torch.mm(f(torch.addmm(b1, x, w1.t())), w2.t())


@wrong("my_network", "no_bias", "ignored b1")
def bias_forgotten(x, w1, b1, w2, activation):
    return activation(x @ w1.T) @ w2.T


@wrong("my_network", "bias_outside")
def bias_late(x, w1, b1, w2, activation):
    return (activation(x @ w1.T) + b1) @ w2.T


@wrong("my_network", "no_activation")
def linear_network(x, w1, b1, w2, activation):
    return (x @ w1.T + b1) @ w2.T


@wrong("my_network", "activated_twice")
def twice(x, w1, b1, w2, activation):
    return activation(activation(x @ w1.T + b1) @ w2.T)


@wrong("my_network", "activated_input")
def early(x, w1, b1, w2, activation):
    return (activation(x) @ w1.T + b1) @ w2.T


@wrong("my_network", "exception")
def not_transposed(x, w1, b1, w2, activation):
    return activation(x @ w1 + b1) @ w2


@wrong("my_network", "value", "exception")
def always_relu(x, w1, b1, w2, activation):
    return torch.relu(x @ w1.T + b1) @ w2.T


@wrong("my_network", "shape")
def hidden_returned(x, w1, b1, w2, activation):
    return activation(x @ w1.T + b1)


@wrong("my_network", "axes in another order", "shape", "exception")
def columns_are_samples(x, w1, b1, w2, activation):
    return w2 @ activation(w1 @ x.T + b1[:, None])


@wrong("my_network", "value")
def bias_subtracted(x, w1, b1, w2, activation):
    return activation(x @ w1.T - b1) @ w2.T
