"""Answers to the exercises on dense layers."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.exercises.corpus import Corpus

corpus = Corpus("layers/dense")
right, wrong = corpus.right, corpus.wrong


# ------------------------------------------------------------------------------------------ my_edges


def listed(n, kernel, stride, padding, dilation, keep=lambda s, n: 0 <= s < n, place=None):
    outputs = (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    place = place or (lambda j, i: stride * j + dilation * i - padding)
    edges = [(place(j, i), j, i) for j in range(outputs) for i in range(kernel)]
    edges = [e for e in edges if keep(e[0], n)]
    return tuple(torch.tensor(edges, dtype=torch.long).view(-1, 3).T)


@right("my_edges")
def loops(n, kernel, stride=1, padding=0, dilation=1):
    source, target, weight = [], [], []
    outputs = (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    for j in range(outputs):
        for i in range(kernel):
            s = stride * j + dilation * i - padding
            if 0 <= s < n:
                source.append(s)
                target.append(j)
                weight.append(i)
    return torch.tensor(source), torch.tensor(target), torch.tensor(weight)


@right("my_edges")
def weight_after_weight(n, kernel, stride=1, padding=0, dilation=1):
    outputs = (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    weight, target = torch.cartesian_prod(torch.arange(kernel), torch.arange(outputs)).T
    source = stride * target + dilation * weight - padding
    keep = (source > -1) & (source <= n - 1)
    return source[keep], target[keep], weight[keep]


@right("my_edges")
def by_repeat(length, k, stride=1, padding=0, dilation=1):
    out = (length + 2 * padding - dilation * (k - 1) - 1) // stride + 1
    target = torch.arange(out).repeat_interleave(k)
    weight = torch.arange(k).repeat(out)
    source = target * stride + weight * dilation - padding
    inside = torch.logical_and(source >= 0, source < length).nonzero().flatten()
    return [source[inside], target[inside], weight[inside]]


@right("my_edges")
def by_unfold(n, kernel, stride=1, padding=0, dilation=1):
    places = F.pad(torch.arange(n) + 1.0, (padding, padding))[None, None, None]
    windows = F.unfold(places, (1, kernel), dilation=dilation, stride=stride)[0].T.long() - 1
    target, weight = (windows >= 0).nonzero(as_tuple=True)
    return windows[target, weight], target, weight


@right("my_edges")
def from_the_input(n, kernel, stride=1, padding=0, dilation=1):
    outputs = (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    edges = []
    for s in range(n):
        for i in range(kernel):
            j, rest = divmod(s + padding - dilation * i, stride)
            if rest == 0 and 0 <= j < outputs:
                edges.append((s, j, i))
    return tuple(torch.tensor(edges).T.int())


@wrong("my_edges", "outside_kept")
def outside_too(n, kernel, stride=1, padding=0, dilation=1):
    return listed(n, kernel, stride, padding, dilation, keep=lambda s, n: True)


@wrong("my_edges", "clamped")
def at_the_border(n, kernel, stride=1, padding=0, dilation=1):
    source, target, weight = outside_too(n, kernel, stride, padding, dilation)
    return source.clamp(0, n - 1), target, weight


@wrong("my_edges", "padding_added")
def padding_added(n, kernel, stride=1, padding=0, dilation=1):
    place = lambda j, i: stride * j + dilation * i + padding  # noqa: E731
    return listed(n, kernel, stride, padding, dilation, place=place)


@wrong("my_edges", "no_padding")
def padding_forgotten(n, kernel, stride=1, padding=0, dilation=1):
    place = lambda j, i: stride * j + dilation * i  # noqa: E731
    return listed(n, kernel, stride, padding, dilation, place=place)


@wrong("my_edges", "stride_and_dilation")
def exchanged(n, kernel, stride=1, padding=0, dilation=1):
    place = lambda j, i: dilation * j + stride * i - padding  # noqa: E731
    return listed(n, kernel, stride, padding, dilation, place=place)


@wrong("my_edges", "source_and_target")
def wrong_order(n, kernel, stride=1, padding=0, dilation=1):
    source, target, weight = listed(n, kernel, stride, padding, dilation)
    return target, source, weight


@wrong("my_edges", "weight_is_edge")
def numbered(n, kernel, stride=1, padding=0, dilation=1):
    source, target, _ = listed(n, kernel, stride, padding, dilation)
    return source, target, torch.arange(len(source))


@wrong("my_edges", "kernel_turned")
def turned_kernel(n, kernel, stride=1, padding=0, dilation=1):
    source, target, weight = listed(n, kernel, stride, padding, dilation)
    return source, target, kernel - 1 - weight


@wrong("my_edges", "one_output_short")
def short(n, kernel, stride=1, padding=0, dilation=1):
    source, target, weight = listed(n, kernel, stride, padding, dilation)
    keep = target < target.max()
    return source[keep], target[keep], weight[keep]


@wrong("my_edges", "any_output")
def as_long_as_inside(n, kernel, stride=1, padding=0, dilation=1):
    target, weight = torch.cartesian_prod(torch.arange(n), torch.arange(kernel)).T
    source = stride * target + dilation * weight - padding
    keep = (source >= 0) & (source < n)
    return source[keep], target[keep], weight[keep]


@wrong("my_edges", "one_output_more")
def one_too_many(n, kernel, stride=1, padding=0, dilation=1):
    outputs = (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 2
    edges = [(stride * j + dilation * i - padding, j, i) for j in range(outputs) for i in range(kernel)]
    edges = [e for e in edges if 0 <= e[0] < n]
    return tuple(torch.tensor(edges).T)


@wrong("my_edges", "border_lost")
def zero_excluded(n, kernel, stride=1, padding=0, dilation=1):
    return listed(n, kernel, stride, padding, dilation, keep=lambda s, n: 0 < s < n)


@wrong("my_edges", "end_kept", "outside_kept")
def length_included(n, kernel, stride=1, padding=0, dilation=1):
    return listed(n, kernel, stride, padding, dilation, keep=lambda s, n: 0 <= s <= n)


@wrong("my_edges", "from_one")
def counted_from_one(n, kernel, stride=1, padding=0, dilation=1):
    return tuple(leg + 1 for leg in listed(n, kernel, stride, padding, dilation))


@wrong("my_edges", "exception")
def lists(n, kernel, stride=1, padding=0, dilation=1):
    return tuple(leg.tolist() for leg in listed(n, kernel, stride, padding, dilation))


@wrong("my_edges", "exception")
def floats(n, kernel, stride=1, padding=0, dilation=1):
    return tuple(leg.double() for leg in listed(n, kernel, stride, padding, dilation))


# ----------------------------------------------------------------------------------------- my_inputs


def output_length(n, kernel, stride, padding, dilation):
    return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@right("my_inputs")
def tried(m, kernel, stride, padding, dilation):
    return [n for n in range(1, 500) if output_length(n, kernel, stride, padding, dilation) == m]


@right("my_inputs")
def tried_with_care(m, kernel, stride, padding, dilation):
    found = []
    for n in range(1, m * stride + dilation * kernel + 1):
        room = n + 2 * padding - dilation * (kernel - 1) - 1
        if room >= 0 and room // stride + 1 == m:
            found.append(n)
    return found


@right("my_inputs")
def two_ends(length, k, s, p, d):
    c = 2 * p - d * (k - 1) - 1
    low, high = (length - 1) * s - c, length * s - 1 - c
    return [n for n in range(low, high + 1) if n >= 1]


@right("my_inputs")
def asked_torch(m, kernel, stride, padding, dilation):
    found = []
    for n in range(max(1, dilation * (kernel - 1) + 1 - 2 * padding), 200):
        x = torch.empty(1, 1, n, device="meta")
        w = torch.empty(1, 1, kernel, device="meta")
        if F.conv1d(x, w, stride=stride, padding=padding, dilation=dilation).shape[-1] == m:
            found.append(n)
    return found


@right("my_inputs")
def as_tuple(m, kernel, stride, padding, dilation):
    c = 2 * padding - dilation * (kernel - 1) - 1
    first = (m - 1) * stride - c
    return tuple(first + i for i in range(stride) if first + i > 0)


@wrong("my_inputs", "one_only")
def smallest(m, kernel, stride, padding, dilation):
    return [(m - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding]


@wrong("my_inputs", "type")
def a_number(m, kernel, stride, padding, dilation):
    return (m - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding


@wrong("my_inputs", "below_one")
def not_positive(m, kernel, stride, padding, dilation):
    first = (m - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return list(range(first, first + stride))


@wrong("my_inputs", "last_missing")
def one_short(m, kernel, stride, padding, dilation):
    first = (m - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return list(range(max(1, first), first + stride - 1))


@wrong("my_inputs", "one_more_at_end")
def one_more(m, kernel, stride, padding, dilation):
    first = (m - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return list(range(max(1, first), first + stride + 1))


@wrong("my_inputs", "padding_once")
def one_side(m, kernel, stride, padding, dilation):
    return tried(m, kernel, stride, padding / 2, dilation)


@wrong("my_inputs", "padding_sign")
def added_padding(m, kernel, stride, padding, dilation):
    first = (m - 1) * stride + dilation * (kernel - 1) + 1 + 2 * padding
    return list(range(max(1, first), first + stride))


@wrong("my_inputs", "no_dilation", "ignored dilation")
def dilation_forgotten(m, kernel, stride, padding, dilation):
    return tried(m, kernel, stride, padding, 1)


@wrong("my_inputs", "one_window_more")
def m_for_m_minus_one(m, kernel, stride, padding, dilation):
    first = m * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return list(range(max(1, first), first + stride))


@wrong("my_inputs", "rounds_to_zero")
def rounded_by_int(m, kernel, stride, padding, dilation):
    def made(n):
        return int((n + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1

    return [n for n in range(1, 2000) if made(n) == m]


@wrong("my_inputs", "search_ends")
def below_a_hundred(m, kernel, stride, padding, dilation):
    fits = dilation * (kernel - 1) + 1
    return [
        n for n in range(1, 100) if n + 2 * padding >= fits and (n + 2 * padding - fits) // stride + 1 == m
    ]


@wrong("my_inputs", "below_first")
def from_the_first_down(m, kernel, stride, padding, dilation):
    first = (m - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return [n for n in range(first - stride + 1, first + 1) if n >= 1]


@wrong("my_inputs", "ends_only")
def smallest_and_largest(m, kernel, stride, padding, dilation):
    first = (m - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return [max(1, first), first + stride - 1]


@wrong("my_inputs", "dilated_kernel")
def kernel_for_reach(m, kernel, stride, padding, dilation):
    first = (m - 1) * stride + dilation * kernel - 2 * padding
    return list(range(max(1, first), first + stride))


@wrong("my_inputs", "forwards", "type")
def forwards(m, kernel, stride, padding, dilation):
    return [output_length(m, kernel, stride, padding, dilation)]


@wrong("my_inputs", "offset_forgotten")
def minus_one_forgotten(m, kernel, stride, padding, dilation):
    first = (m - 1) * stride + dilation * (kernel - 1) - 2 * padding
    return list(range(max(1, first), first + stride))


@wrong("my_inputs", "largest_first")
def descending(m, kernel, stride, padding, dilation):
    return tried(m, kernel, stride, padding, dilation)[::-1]


@wrong("my_inputs", "dilated_kernel")
def dilation_times_kernel(m, kernel, stride, padding, dilation):
    return tried(m, dilation * kernel, stride, padding, 1)


# ------------------------------------------------------------------------------------------- MyBlock


@right("MyBlock")
class Written(nn.Module):
    def __init__(self, dim, expansion=4):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, dim * expansion)
        self.contract = nn.Linear(dim * expansion, dim)

    def forward(self, z):
        h = self.norm(z)
        h = self.expand(h)
        h = torch.nn.functional.gelu(h)
        return self.contract(h) + z


@right("MyBlock")
class WithActivation(nn.Module):
    def __init__(self, dim, expansion=4):
        super().__init__()
        self.norm, self.act = nn.LayerNorm((dim,)), nn.GELU()
        self.expand, self.contract = nn.Linear(dim, expansion * dim), nn.Linear(expansion * dim, dim)

    def forward(self, x):
        return x + self.contract(self.act(self.expand(self.norm(x))))


@right("MyBlock")
class OtherOrder(nn.Module):
    def __init__(self, width, expansion=4):
        super().__init__()
        self.contract = nn.Linear(expansion * width, width)
        self.expand = nn.Linear(width, expansion * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, z):
        skip = z
        z = F.gelu(self.expand(self.norm(z)))
        return skip + self.contract(z)


@right("MyBlock")
class GeluByHand(nn.Module):
    def __init__(self, dim, expansion=4):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, expansion * dim)
        self.contract = nn.Linear(expansion * dim, dim)

    def forward(self, z):
        h = self.expand(self.norm(z))
        return z + self.contract(h * 0.5 * (1 + torch.erf(h / 2**0.5)))


@right("MyBlock")
class NormByHand(nn.Module):
    def __init__(self, dim, expansion=4):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, expansion * dim)
        self.contract = nn.Linear(expansion * dim, dim)

    def forward(self, z):
        n = (z - z.mean(-1, keepdim=True)) / torch.sqrt(z.var(-1, keepdim=True, correction=0) + 1e-5)
        n = n * self.norm.weight + self.norm.bias
        return z + F.linear(F.gelu(self.expand(n)), self.contract.weight, self.contract.bias)


@wrong("MyBlock", "NoSkip")
class Forgetful(Written):
    def forward(self, z):
        return self.contract(F.gelu(self.expand(self.norm(z))))


@wrong("MyBlock", "SkipAfterNorm")
class Overwritten(Written):
    def forward(self, z):
        z = self.norm(z)
        return z + self.contract(F.gelu(self.expand(z)))


@wrong("MyBlock", "PostNorm")
class NormLast(Written):
    def forward(self, z):
        return self.norm(z + self.contract(F.gelu(self.expand(z))))


@wrong("MyBlock", "WithReLU")
class Relu(Written):
    def forward(self, z):
        return z + self.contract(F.relu(self.expand(self.norm(z))))


@wrong("MyBlock", "WithTanh")
class Approximate(Written):
    def forward(self, z):
        return z + self.contract(F.gelu(self.expand(self.norm(z)), approximate="tanh"))


@wrong("MyBlock", "NoActivation")
class Straight(Written):
    def forward(self, z):
        return z + self.contract(self.expand(self.norm(z)))


@wrong("MyBlock", "NoNorm")
class Raw(Written):
    def forward(self, z):
        return z + self.contract(F.gelu(self.expand(z)))


@wrong("MyBlock", "WithSiLU")
class Swish(Written):
    def forward(self, z):
        return z + self.contract(F.silu(self.expand(self.norm(z))))


@wrong("MyBlock", "ActivationTwice")
class TwoGelus(Written):
    def forward(self, z):
        return z + F.gelu(self.contract(F.gelu(self.expand(self.norm(z)))))


@wrong("MyBlock", "NormInside", "NormOfMessage", "value")
class NormOnMessage(Written):
    def forward(self, z):
        return z + self.norm(self.contract(F.gelu(self.expand(z))))


@wrong("MyBlock", "state")
class OtherNames(nn.Module):
    def __init__(self, dim, expansion=4):
        super().__init__()
        self.ln, self.fc1, self.fc2 = nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, z):
        return z + self.fc2(F.gelu(self.fc1(self.ln(z))))


@wrong("MyBlock", "state")
class WithoutBias(nn.Module):
    def __init__(self, dim, expansion=4):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, expansion * dim, bias=False)
        self.contract = nn.Linear(expansion * dim, dim, bias=False)

    def forward(self, z):
        return z + self.contract(F.gelu(self.expand(self.norm(z))))


@wrong("MyBlock", "state")
class AlwaysFour(nn.Module):
    def __init__(self, dim, expansion=4):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 4 * dim)
        self.contract = nn.Linear(4 * dim, dim)

    def forward(self, z):
        return z + self.contract(F.gelu(self.expand(self.norm(z))))


@wrong("MyBlock", "exception")
class NoSuper(nn.Module):
    def __init__(self, dim, expansion=4):
        self.norm = nn.LayerNorm(dim)

    def forward(self, z):
        return z


@wrong("MyBlock", "in place")
class AddsInPlace(Written):
    def forward(self, z):
        z += self.contract(F.gelu(self.expand(self.norm(z))))
        return z


@wrong("MyBlock", "Dropped", "value")
class WithDropout(Written):
    def forward(self, z):
        return z + F.dropout(self.contract(F.gelu(self.expand(self.norm(z)))), 0.1, self.training)


# ----------------------------------------------------------------------------------------- my_window


@right("my_window")
def closed_form(layers):
    steps = [math.prod(s for _, s, _ in layers[:i]) for i in range(len(layers) + 1)]
    reach = 1 + sum(d * (k - 1) * j for (k, _, d), j in zip(layers, steps, strict=False))
    return steps[-1], reach


@right("my_window")
def from_the_top(layers):
    first, last, second = 0, 0, 1
    for kernel, stride, dilation in reversed(layers):
        first, last, second = first * stride, last * stride + dilation * (kernel - 1), second * stride
    return second - first, last - first + 1


@right("my_window")
def backwards_recursion(layers):
    reach, step = 1, 1
    for kernel, stride, dilation in layers[::-1]:
        reach = (reach - 1) * stride + dilation * (kernel - 1) + 1
        step = step * stride
    return [step, reach]


@right("my_window")
def by_sets(layers):
    seen = [{0}, {1}]
    for kernel, stride, dilation in reversed(layers):
        seen = [{j * stride + i * dilation for j in places for i in range(kernel)} for places in seen]
    return min(seen[1]) - min(seen[0]), max(seen[0]) - min(seen[0]) + 1


@right("my_window")
def by_recursion(layers):
    if not layers:
        return 1, 1
    step, reach = by_recursion(layers[:-1])
    kernel, stride, dilation = layers[-1]
    return step * stride, reach + (kernel - 1) * dilation * step


@wrong("my_window", "steps_ignored")
def no_steps(layers):
    return closed_form(layers)[0], 1 + sum(d * (k - 1) for k, _, d in layers)


@wrong("my_window", "own_stride")
def stride_first(layers):
    step, reach = 1, 1
    for kernel, stride, dilation in layers:
        step *= stride
        reach += dilation * (kernel - 1) * step
    return step, reach


@wrong("my_window", "no_dilation")
def dilation_forgotten_here(layers):
    return closed_form([(k, s, 1) for k, s, _ in layers])


@wrong("my_window", "kernel_for_gaps")
def kernels_added(layers):
    step, reach = 1, 1
    for kernel, stride, dilation in layers:
        reach += dilation * kernel * step
        step *= stride
    return step, reach


@wrong("my_window", "starts_at_zero")
def from_zero(layers):
    step, reach = closed_form(layers)
    return step, reach - 1


@wrong("my_window", "product_of_kernels")
def multiplied(layers):
    return math.prod(s for _, s, _ in layers), math.prod(k for k, _, _ in layers)


@wrong("my_window", "reversed_layers")
def last_first(layers):
    return closed_form(layers[::-1])


@wrong("my_window", "swapped")
def reach_first(layers):
    return closed_form(layers)[::-1]


@wrong("my_window", "strides_added")
def sum_of_strides(layers):
    step, reach = 1, 1
    for kernel, stride, dilation in layers:
        reach += dilation * (kernel - 1) * step
        step += stride - 1
    return step, reach


@wrong("my_window", "last_stride_only")
def only_the_stride_before(layers):
    before, reach = 1, 1
    for kernel, stride, dilation in layers:
        reach += dilation * (kernel - 1) * before
        before = stride
    return closed_form(layers)[0], reach


@wrong("my_window", "dilation_in_step")
def dilation_in_the_step(layers):
    step, reach = 1, 1
    for kernel, stride, dilation in layers:
        reach += dilation * (kernel - 1) * step
        step *= stride * dilation
    return step, reach


@wrong("my_window", "last_layer_only")
def just_the_last(layers):
    return closed_form(layers[-1:])


@wrong("my_window", "step_of_last")
def last_stride(layers):
    return layers[-1][1] if layers else 1, closed_form(layers)[1]


@wrong("my_window", "gap_too_few")
def dilated_kernel(layers):
    step, reach = 1, 1
    for kernel, stride, dilation in layers:
        reach += (dilation * kernel - 1) * step
        step *= stride
    return step, reach


# ---------------------------------------------------------------------------------- my_span_backward


@right("my_span_backward")
def index_adds(g, x, w, source, target, weight):
    dx = torch.zeros_like(x).index_add(1, source, w[weight] * g[:, target])
    dw = torch.zeros_like(w).index_add(0, weight, (x[:, source] * g[:, target]).sum(0))
    return dx, dw


@right("my_span_backward")
def scattered(g, x, w, source, target, weight):
    pulled = g[:, target]
    dx = torch.zeros_like(x).scatter_add(1, source.expand(len(x), -1), pulled * w[weight])
    dw = torch.zeros_like(w).scatter_add(0, weight, (pulled * x[:, source]).sum(dim=0))
    return dx, dw


@right("my_span_backward")
def one_hot_matrices(g, x, w, source, target, weight):
    reads, uses = F.one_hot(source, x.shape[1]).to(x), F.one_hot(weight, len(w)).to(x)
    pulled = g[:, target]
    return (pulled * w[weight]) @ reads, (pulled * x[:, source]).sum(0) @ uses


@right("my_span_backward")
def in_the_new_tensor(g, x, w, source, target, weight):
    dx, dw = torch.zeros_like(x), torch.zeros_like(w)
    dx.index_add_(1, source, w[weight] * g[:, target])
    dw.index_add_(0, weight, torch.einsum("be,be->e", x[:, source], g[:, target]))
    return [dx, dw]


@right("my_span_backward")
def put_with_accumulate(g, x, w, source, target, weight):
    dw = torch.zeros_like(w).index_put((weight,), (x[:, source] * g[:, target]).sum(0), accumulate=True)
    dx = torch.zeros_like(x).T.index_put((source,), (w[weight] * g[:, target]).T, accumulate=True).T
    return dx, dw


@wrong("my_span_backward", "ties_lost", "mean_over_batch")
def as_given(g, x, w, source, target, weight):
    dx, dw = torch.zeros_like(x), torch.zeros_like(w)
    dx = dx.index_add(1, source, w[weight] * g[:, target])
    dw[weight] = (x[:, source] * g[:, target]).mean(0)
    return dx, dw


@wrong("my_span_backward", "ties_lost")
def only_sum_mended(g, x, w, source, target, weight):
    dx, dw = torch.zeros_like(x), torch.zeros_like(w)
    dx = dx.index_add(1, source, w[weight] * g[:, target])
    dw[weight] = (x[:, source] * g[:, target]).sum(0)
    return dx, dw


@wrong("my_span_backward", "mean_over_batch")
def only_ties_mended(g, x, w, source, target, weight):
    dx, dw = index_adds(g, x, w, source, target, weight)
    return dx, dw / len(x)


@wrong("my_span_backward", "ties_lost")
def plus_equals(g, x, w, source, target, weight):
    dx, dw = torch.zeros_like(x), torch.zeros_like(w)
    dx = dx.index_add(1, source, w[weight] * g[:, target])
    dw[weight] += (x[:, source] * g[:, target]).sum(0)
    return dx, dw


@wrong("my_span_backward", "readers_lost")
def dx_assigned(g, x, w, source, target, weight):
    dx = torch.zeros_like(x)
    dx[:, source] = w[weight] * g[:, target]
    return dx, index_adds(g, x, w, source, target, weight)[1]


@wrong("my_span_backward", "readers_lost", "ties_lost")
def both_assigned(g, x, w, source, target, weight):
    dx, dw = torch.zeros_like(x), torch.zeros_like(w)
    dx[:, source] = w[weight] * g[:, target]
    dw[weight] = (x[:, source] * g[:, target]).sum(0)
    return dx, dw


@wrong("my_span_backward", "swapped", "shape", "type")
def other_order(g, x, w, source, target, weight):
    return index_adds(g, x, w, source, target, weight)[::-1]


@wrong("my_span_backward", "shape", "batch_left", "axis left")
def per_row(g, x, w, source, target, weight):
    dx, _ = index_adds(g, x, w, source, target, weight)
    return dx, torch.zeros(len(x), len(w)).index_add(1, weight, x[:, source] * g[:, target])


@wrong("my_span_backward", "at most so many calls")
def edge_after_edge(g, x, w, source, target, weight):
    dx, dw = torch.zeros_like(x), torch.zeros_like(w)
    for s, t, p in zip(source.tolist(), target.tolist(), weight.tolist(), strict=True):
        dx[:, s] += w[p] * g[:, t]
        dw[p] += (x[:, s] * g[:, t]).sum()
    return dx, dw


@wrong("my_span_backward", "without autograd")
def by_autograd(g, x, w, source, target, weight):
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = torch.zeros_like(g).index_add(1, target, x[:, source] * w[weight])
    return torch.autograd.grad(y, (x, w), g)


@wrong("my_span_backward", "mean_over_ties")
def averaged_ties(g, x, w, source, target, weight):
    dx, dw = index_adds(g, x, w, source, target, weight)
    return dx, dw / torch.bincount(weight, minlength=len(w)).clamp(min=1)


@wrong("my_span_backward", "first_row", "value")
def row_zero(g, x, w, source, target, weight):
    dx, _ = index_adds(g, x, w, source, target, weight)
    return dx, torch.zeros_like(w).index_add(0, weight, x[0, source] * g[0, target])


@wrong("my_span_backward", "no_weight_in_dx")
def weights_forgotten(g, x, w, source, target, weight):
    _, dw = index_adds(g, x, w, source, target, weight)
    return torch.zeros_like(x).index_add(1, source, g[:, target]), dw


# ---------------------------------------------------------------------------------- my_false_friends


@right("my_false_friends")
def large_stride():
    return (8, 11, 0, 1), (9, 11, 0, 1)


@right("my_false_friends")
def by_padding():
    return (1, 12, 3, 1), (2, 12, 3, 1)


@right("my_false_friends")
def all_in_one_window():
    return [3, 50, 0, 1], [4, 40, 0, 1]


@wrong("my_false_friends", "value")
def different_at_once():
    return (3, 1, 1, 1), (3, 1, 0, 1)


@wrong("my_false_friends", "value")
def true_friends():
    return (3, 1, 1, 1), (5, 1, 2, 1)


@wrong("my_false_friends", "value")
def twins():
    return (3, 2, 1, 1), (3, 2, 1, 1)


@wrong("my_false_friends", "value")
def too_wide():
    return (25, 20, 0, 1), (26, 20, 0, 1)


@wrong("my_false_friends", "value")
def nine_lengths():
    return (8, 10, 0, 1), (9, 10, 0, 1)


@wrong("my_false_friends", "value", "type")
def three_numbers():
    return (3, 1, 1), (5, 1, 2)


@wrong("my_false_friends", "value", "type")
def negative_padding():
    return (1, 11, -3, 1), (2, 11, -3, 1)


# ------------------------------------------------------------------------------------------ my_hinge


@right("my_hinge")
def relu_of_margins(scores, target):
    sign = torch.full_like(scores, -1.0).scatter(1, target[:, None], 1.0)
    return F.relu(1 - sign * scores).pow(2).sum() / len(scores)


@right("my_hinge")
def row_by_row(scores, target):
    total = 0
    for row, k in zip(scores, target, strict=True):
        for i, s in enumerate(row):
            y = 1 if i == k else -1
            total = total + torch.clamp(1 - y * s, min=0) ** 2
    return total / scores.shape[0]


@right("my_hinge")
def with_where(scores, target):
    own = torch.arange(scores.shape[1]) == target[:, None]
    margins = torch.where(own, 1 - scores, 1 + scores)
    return torch.maximum(margins, torch.zeros(())).square().sum(-1).mean()


@right("my_hinge")
def two_parts(scores, target):
    wrong_ones = (1 + scores).clamp(min=0).square()
    own = scores.gather(1, target[:, None])
    all_ = wrong_ones.sum(1) - (1 + own).clamp(min=0).square()[:, 0] + (1 - own).clamp(min=0).square()[:, 0]
    return all_.mean()


@right("my_hinge")
def hinge_in_float32(logits, labels):
    y = F.one_hot(labels, logits.size(1)).float() * 2 - 1
    return torch.relu(1 - y * logits.float()).square().sum(1).mean()


@wrong("my_hinge", "zero_one")
def zero_one_targets(scores, target):
    y = F.one_hot(target, scores.shape[1])
    return (1 - y * scores).clamp(min=0).square().sum(1).mean()


@wrong("my_hinge", "not_squared")
def plain_hinge(scores, target):
    y = 2 * F.one_hot(target, scores.shape[1]) - 1
    return (1 - y * scores).clamp(min=0).sum(1).mean()


@wrong("my_hinge", "mean_over_classes")
def mean_of_all(scores, target):
    y = 2 * F.one_hot(target, scores.shape[1]) - 1
    return (1 - y * scores).clamp(min=0).square().mean()


@wrong("my_hinge", "no_maximum")
def squares(scores, target):
    y = 2 * F.one_hot(target, scores.shape[1]) - 1
    return (1 - y * scores).square().sum(1).mean()


@wrong("my_hinge", "sum_over_rows")
def summed(scores, target):
    y = 2 * F.one_hot(target, scores.shape[1]) - 1
    return (1 - y * scores).clamp(min=0).square().sum()


@wrong("my_hinge", "sign_turned")
def plus(scores, target):
    y = 2 * F.one_hot(target, scores.shape[1]) - 1
    return (1 + y * scores).clamp(min=0).square().sum(1).mean()


@wrong("my_hinge", "one_per_row", "shape", "axis left")
def each_row(scores, target):
    y = 2 * F.one_hot(target, scores.shape[1]) - 1
    return (1 - y * scores).clamp(min=0).square().sum(1)


@wrong("my_hinge", "own_class_only")
def right_class_only(scores, target):
    return (1 - scores.gather(1, target[:, None])).clamp(min=0).square().mean()


@wrong("my_hinge", "against_right")
def crammer_singer(scores, target):
    own = scores.gather(1, target[:, None])
    losses = (1 - own + scores).clamp(min=0).square()
    return losses.scatter(1, target[:, None], 0.0).sum(1).mean()


@wrong("my_hinge", "against_right", "against_best", "value")
def multi_margin(scores, target):
    return F.multi_margin_loss(scores, target, p=2)


@wrong("my_hinge", "halved", "factor")
def with_a_half(scores, target):
    return relu_of_margins(scores, target) / 2


@wrong("my_hinge", "square_before_cut", "value", "no_maximum")
def squared_first(scores, target):
    y = 2 * F.one_hot(target, scores.shape[1]) - 1
    return (1 - y * scores).square().clamp(min=0).sum(1).mean()


@wrong("my_hinge", "exception")
def no_axis(scores, target):
    y = torch.zeros_like(scores)
    y[target] = 1
    return (1 - (2 * y - 1) * scores).clamp(min=0).square().sum(1).mean()


@wrong("my_hinge", "zero_one", "not_squared")
def two_faults(scores, target):
    y = F.one_hot(target, scores.shape[1])
    return (1 - y * scores).clamp(min=0).sum(1).mean()


@wrong("my_hinge", "no gradient")
def detached(scores, target):
    return torch.tensor(relu_of_margins(scores, target).item())


@wrong("my_hinge", "no_margin")
def perceptron(scores, target):
    y = 2 * F.one_hot(target, scores.shape[1]) - 1
    return (-y * scores).clamp(min=0).square().sum(1).mean()


# ------------------------------------------------------------------------------------ my_probability


@right("my_probability")
def clamped_half(scores):
    return torch.clamp(0.5 * scores + 0.5, min=0.0, max=1.0)


@right("my_probability")
def clamped_first(scores):
    return (scores.clamp(-1, 1) + 1) / 2


@right("my_probability")
def hardtanh(scores):
    return (F.hardtanh(scores) + 1) / 2


@right("my_probability")
def by_where(s):
    p = (1 + s) / 2
    return torch.where(p < 0, torch.zeros_like(p), torch.where(p > 1, torch.ones_like(p), p))


@right("my_probability")
def probability_in_float32(scores):
    return ((scores.float() + 1) / 2).clamp(0, 1)


@wrong("my_probability", "sigmoid")
def logistic(scores):
    return scores.sigmoid()


@wrong("my_probability", "not_clamped")
def unclamped(scores):
    return (scores + 1) / 2


@wrong("my_probability", "score_itself")
def cut(scores):
    return scores.clamp(0, 1)


@wrong("my_probability", "softmax")
def softmax(scores):
    return scores.softmax(-1)


@wrong("my_probability", "one minus", "upside_down")
def other_class(scores):
    return ((1 - scores) / 2).clamp(0, 1)


@wrong("my_probability", "forwards")
def score_of_probability(scores):
    return (2 * scores - 1).clamp(-1, 1)


@wrong("my_probability", "forwards_cut")
def score_of_probability_cut(scores):
    return (2 * scores - 1).clamp(0, 1)


@wrong("my_probability", "rounded", "hinge_optimum")
def step(scores):
    return (scores > 0).double()


@wrong("my_probability", "not_halved")
def too_large(scores):
    return (scores + 1).clamp(0, 1)


@wrong("my_probability", "divided_by_sum")
def shares(scores):
    p = ((scores + 1) / 2).clamp(0, 1)
    return p / p.sum(-1, keepdim=True)


@wrong("my_probability", "sigmoid_of_double")
def logistic_of_double(scores):
    return (2 * scores).sigmoid()


@wrong("my_probability", "in place")
def in_place(scores):
    return scores.add_(1).div_(2).clamp_(0, 1)


# ----------------------------------------------------------------------------------- MyEarlyStopping


@right("MyEarlyStopping")
class Plain:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.bad, self.kept = float("inf"), 0, None

    def better(self, loss):
        return loss < self.best - self.min_delta

    def keep(self, model):
        self.kept = copy.deepcopy(model.state_dict())

    def on_epoch_end(self, loss, model):
        if self.better(loss):
            self.best, self.bad = loss, 0
            self.keep(model)
        else:
            self.bad += 1
        return self.bad >= self.patience

    def restore(self, model):
        model.load_state_dict(self.kept)


@right("MyEarlyStopping")
class FirstIsNone(Plain):
    def __init__(self, patience, min_delta=0.0):
        super().__init__(patience, min_delta)
        self.best = None

    def better(self, loss):
        return self.best is None or self.best - loss > self.min_delta


@right("MyEarlyStopping")
class Clones(Plain):
    def keep(self, model):
        self.kept = {name: value.detach().clone() for name, value in model.state_dict().items()}


@right("MyEarlyStopping")
class ByHistory:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.losses, self.states = [], []

    def best_epoch(self):
        best = 0
        for epoch, loss in enumerate(self.losses):
            if loss < self.losses[best] - self.min_delta:
                best = epoch
        return best

    def on_epoch_end(self, loss, model):
        self.losses.append(loss)
        self.states.append(copy.deepcopy(model.state_dict()))
        return len(self.losses) - 1 - self.best_epoch() >= self.patience

    def restore(self, model):
        model.load_state_dict(self.states[self.best_epoch()])


@right("MyEarlyStopping")
class WholeModel(Plain):
    def keep(self, model):
        self.kept = copy.deepcopy(model)

    def restore(self, model):
        with torch.no_grad():
            for mine, kept in zip(model.parameters(), self.kept.parameters(), strict=True):
                mine.copy_(kept)


@wrong("MyEarlyStopping", "references")
class References(Plain):
    def keep(self, model):
        self.kept = model.state_dict()


@wrong("MyEarlyStopping", "references")
class ShallowCopy(Plain):
    def keep(self, model):
        self.kept = dict(model.state_dict())


@wrong("MyEarlyStopping", "counts_all")
class NeverReset(Plain):
    def on_epoch_end(self, loss, model):
        if self.better(loss):
            self.best = loss
            self.keep(model)
        else:
            self.bad += 1
        return self.bad >= self.patience


@wrong("MyEarlyStopping", "one_later")
class Later(Plain):
    def on_epoch_end(self, loss, model):
        super().on_epoch_end(loss, model)
        return self.bad > self.patience


@wrong("MyEarlyStopping", "no_delta")
class DeltaForgotten(Plain):
    def better(self, loss):
        return loss < self.best


@wrong("MyEarlyStopping", "delta_added")
class DeltaAdded(Plain):
    def better(self, loss):
        return loss < self.best + self.min_delta


@wrong("MyEarlyStopping", "equal_is_better")
class EqualIsBetter(Plain):
    def better(self, loss):
        return loss <= self.best - self.min_delta


@wrong("MyEarlyStopping", "drifting_best")
class Drifting(Plain):
    def on_epoch_end(self, loss, model):
        stop = super().on_epoch_end(loss, model)
        self.best = min(self.best, loss)
        return stop


@wrong("MyEarlyStopping", "compares_with_last")
class LastOne(Plain):
    def __init__(self, patience, min_delta=0.0):
        super().__init__(patience, min_delta)
        self.last = math.inf

    def on_epoch_end(self, loss, model):
        if loss < self.last - self.min_delta:
            self.bad = 0
            self.keep(model)
        else:
            self.bad += 1
        self.last = loss
        return self.bad >= self.patience


@wrong("MyEarlyStopping", "keeps_all")
class KeepsLast(Plain):
    def on_epoch_end(self, loss, model):
        stop = super().on_epoch_end(loss, model)
        self.keep(model)
        return stop


@wrong("MyEarlyStopping", "larger_is_better")
class Accuracy(Plain):
    def __init__(self, patience, min_delta=0.0):
        super().__init__(patience, min_delta)
        self.best = -math.inf

    def better(self, loss):
        return loss > self.best + self.min_delta


@wrong("MyEarlyStopping", "answer_turned")
class GoOn(Plain):
    def on_epoch_end(self, loss, model):
        return not super().on_epoch_end(loss, model)


@wrong("MyEarlyStopping", "no_restore")
class NothingRestored(Plain):
    def restore(self, model):
        return self.kept


@wrong("MyEarlyStopping", "no_restore")
class Rebound(Plain):
    def keep(self, model):
        self.kept = copy.deepcopy(model)

    def restore(self, model):
        model = self.kept  # noqa: F841


@wrong("MyEarlyStopping", "silent")
class SaysNothing(Plain):
    def on_epoch_end(self, loss, model):
        if super().on_epoch_end(loss, model):
            return True


@wrong("MyEarlyStopping", "references", "one_later")
class TwoFaults(Later):
    def keep(self, model):
        self.kept = model.state_dict()


@wrong("MyEarlyStopping", "impatient")
class ExactlyOne(Plain):
    def on_epoch_end(self, loss, model):
        super().on_epoch_end(loss, model)
        return self.bad == 1


# ------------------------------------------- written by somebody who knew the statements only


@wrong("my_edges", "count_padded_once")
def one_padding_in_the_count(n, kernel, stride=1, padding=0, dilation=1):
    outputs = (n + padding - dilation * (kernel - 1) - 1) // stride + 1
    return _edges_of(outputs, n, kernel, stride, padding, dilation)


@wrong("my_edges", "count_undilated")
def count_without_dilation(n, kernel, stride=1, padding=0, dilation=1):
    outputs = (n + 2 * padding - (kernel - 1) - 1) // stride + 1
    return _edges_of(outputs, n, kernel, stride, padding, dilation)


def _edges_of(outputs, n, kernel, stride, padding, dilation):
    edges = [(stride * j + dilation * i - padding, j, i) for j in range(outputs) for i in range(kernel)]
    edges = [edge for edge in edges if 0 <= edge[0] < n]
    return tuple(torch.tensor(leg, dtype=torch.long) for leg in zip(*edges, strict=True))


@wrong("my_window", "product_of_spans")
def spans_multiplied(layers):
    step, reach = 1, 1
    for kernel, stride, dilation in layers:
        reach *= (kernel - 1) * dilation + 1
        step *= stride
    return step, reach


@wrong("my_window", "dilations_multiply")
def dilation_over_dilation(layers):
    step, reach, spread = 1, 1, 1
    for kernel, stride, dilation in layers:
        spread *= dilation
        reach += (kernel - 1) * spread * step
        step *= stride
    return step, reach


@wrong("my_window", "places_read")
def places_that_are_read(layers):
    seen, step = {0}, 1
    for kernel, stride, dilation in layers:
        seen = {a + i * dilation * step for a in seen for i in range(kernel)}
        step *= stride
    return step, len(seen)


@wrong("my_span_backward", "not_assigned")
def sum_thrown_away(g, x, w, source, target, weight):
    dx, dw = torch.zeros_like(x), torch.zeros_like(w)
    dx = dx.index_add(1, source, w[weight] * g[:, target])
    dw.index_add(0, weight, (x[:, source] * g[:, target]).sum(0))
    return dx, dw


@wrong("my_span_backward", "edges_summed")
def all_edges_in_one(g, x, w, source, target, weight):
    dx = torch.zeros_like(x).index_add(1, source, w[weight] * g[:, target])
    told = (x[:, source] * g[:, target]).sum(1).sum().expand(len(weight))
    return dx, torch.zeros_like(w).index_add(0, weight, told)


@wrong("my_hinge", "classes_of_batch")
def classes_that_occur(scores, target):
    return (torch.relu(1 - (2 * F.one_hot(target) - 1) * scores) ** 2).sum(1).mean()


@right("my_probability")
def number_by_number(scores):
    flat = [min(1.0, max(0.0, (s + 1) / 2)) for s in scores.flatten().tolist()]
    return torch.tensor(flat, dtype=scores.dtype).reshape(scores.shape)


@wrong("my_probability", "halved_late")
def half_the_score_and_one(scores):
    return (scores / 2 + 1).clamp(0, 1)


@wrong("my_probability", "beyond_is_half")
def undecided_outside(scores):
    return torch.where(scores.abs() <= 1, (scores + 1) / 2, torch.full_like(scores, 0.5))


@wrong("my_probability", "share_of_squares")
def cost_over_costs(scores):
    return (1 + scores) ** 2 / ((1 + scores) ** 2 + (1 - scores) ** 2)


@wrong("my_probability", "clamped_above_only")
def cut_above(scores):
    return ((scores + 1) / 2).clamp(max=1)


@wrong("MyEarlyStopping", "keeps_first")
class KeepsTheFirst:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.bad, self.state = math.inf, 0, None

    def on_epoch_end(self, loss, model):
        if loss < self.best - self.min_delta:
            self.best, self.bad = loss, 0
            self.state = self.state or copy.deepcopy(model.state_dict())
        else:
            self.bad += 1
        return self.bad >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)
