"""Answers to the exercises on convolution."""

import torch
from torch import einsum
from torch.nn import functional as F

from tests.exercises.corpus import Corpus

corpus = Corpus("layers/conv")
right, wrong = corpus.right, corpus.wrong


# ------------------------------------------------------------------------------------ my_output_size


@right("my_output_size")
def as_in_the_guide(i, k, s, p, d):
    return (i + 2 * p - k - (k - 1) * (d - 1)) // s + 1


@right("my_output_size")
def counted(i, k, s, p, d):
    return len([start for start in range(0, i + 2 * p, s) if start + d * (k - 1) < i + 2 * p])


@right("my_output_size")
def with_floor(i, k, s, p, d):
    return int((i + 2 * p - d * (k - 1) - 1) / s + 1)


@right("my_output_size")
def by_torch(i, k, s, p, d):
    return F.unfold(torch.zeros(1, 1, i, 1), (k, 1), dilation=(d, 1), padding=(p, 0), stride=(s, 1)).shape[-1]


@right("my_output_size")
def with_range(i, k, s, p, d):
    return len(range(0, i + 2 * p - d * (k - 1), s))


@wrong("my_output_size", "one_sided")
def padded_once(i, k, s, p, d):
    return (i + p - d * (k - 1) - 1) // s + 1


@wrong("my_output_size", "no_dilation")
def undilated(i, k, s, p, d):
    return (i + 2 * p - k) // s + 1


@wrong("my_output_size", "dilated_too_far")
def dilation_times_kernel(i, k, s, p, d):
    return (i + 2 * p - d * k) // s + 1


@wrong("my_output_size", "first_place_lost")
def no_one(i, k, s, p, d):
    return (i + 2 * p - d * (k - 1) - 1) // s


@wrong("my_output_size", "rounded_up")
def ceiled(i, k, s, p, d):
    return -(-(i + 2 * p - d * (k - 1) - 1) // s) + 1


@wrong("my_output_size", "not_rounded")
def float_division(i, k, s, p, d):
    return (i + 2 * p - d * (k - 1) - 1) / s + 1


@wrong("my_output_size", "divided_late")
def one_inside(i, k, s, p, d):
    return (i + 2 * p - d * (k - 1)) // s


@wrong("my_output_size", "no_padding")
def without_padding(i, k, s, p, d):
    return (i - d * (k - 1) - 1) // s + 1


@wrong("my_output_size", "no_stride")
def without_stride(i, k, s, p, d):
    return i + 2 * p - d * (k - 1)


@wrong("my_output_size", "no_dilation", "one_sided")
def two_things(i, k, s, p, d):
    return (i + p - k) // s + 1


@wrong("my_output_size", "value")
def same_size(i, k, s, p, d):
    return i // s


# -------------------------------------------------------------------------------- my_transposed_size


@right("my_transposed_size")
def solved(i, k, s, p, d, a):
    return s * (i - 1) + a + (d * (k - 1) + 1) - 2 * p


@right("my_transposed_size")
def last_entry(i, k, s, p, d, a):
    last = (i - 1) * s + (k - 1) * d
    return last + 1 - p - p + a


@right("my_transposed_size")
def by_writing(i, k, s, p, d, a):
    places = {start * s + u * d for start in range(i) for u in range(k)}
    return max(places) + 1 - 2 * p + a


@right("my_transposed_size")
def by_torch_2d(i, k, s, p, d, a):
    x = torch.zeros(1, 1, i, 1)
    return F.conv_transpose2d(
        x, torch.zeros(1, 1, k, 1), stride=(s, 1), padding=(p, 0), dilation=(d, 1), output_padding=(a, 0)
    ).shape[2]


@right("my_transposed_size")
def as_float(i, k, s, p, d, a):
    return float((i - 1) * s - 2 * p + d * (k - 1) + a + 1)


@wrong("my_transposed_size", "padding_added")
def padding_plus(i, k, s, p, d, a):
    return s * (i - 1) + d * (k - 1) + 1 + 2 * p + a


@wrong("my_transposed_size", "one_sided")
def padding_once(i, k, s, p, d, a):
    return s * (i - 1) + d * (k - 1) + 1 - p + a


@wrong("my_transposed_size", "gap_too_many")
def i_steps(i, k, s, p, d, a):
    return s * i + d * (k - 1) + 1 - 2 * p + a


@wrong("my_transposed_size", "nothing_added", "ignored a")
def a_forgotten(i, k, s, p, d, a):
    return s * (i - 1) + d * (k - 1) + 1 - 2 * p


@wrong("my_transposed_size", "kernel_too_long")
def dk(i, k, s, p, d, a):
    return s * (i - 1) + d * k - 2 * p + a


@wrong("my_transposed_size", "no_dilation", "ignored d")
def plain_kernel(i, k, s, p, d, a):
    return s * (i - 1) + k - 2 * p + a


@wrong("my_transposed_size", "last_place_lost")
def without_one(i, k, s, p, d, a):
    return s * (i - 1) + d * (k - 1) - 2 * p + a


@wrong("my_transposed_size", "convolution")
def the_other_one(i, k, s, p, d, a):
    return (i + 2 * p - d * (k - 1) - 1) // s + 1


@wrong("my_transposed_size", "added_twice")
def a_twice(i, k, s, p, d, a):
    return s * (i - 1) + d * (k - 1) + 1 - 2 * p + 2 * a


@wrong("my_transposed_size", "gap_too_many", "no_dilation", "kernel_too_long", "value")
def input_times_stride(i, k, s, p, d, a):
    return i * s + a


# -------------------------------------------------------------------------------- my_receptive_field


@right("my_receptive_field")
def forwards(kernels, strides, dilations):
    rows, step = 1, 1
    for k, s, d in zip(kernels, strides, dilations, strict=True):
        rows += step * d * (k - 1)
        step *= s
    return rows


@right("my_receptive_field")
def by_product(ks, ss, ds):
    total = 1
    for layer in range(len(ks)):
        product = 1
        for s in ss[:layer]:
            product *= s
        total += (ks[layer] - 1) * ds[layer] * product
    return total


@right("my_receptive_field")
def recursive(kernels, strides, dilations):
    if not kernels:
        return 1
    rest = recursive(kernels[1:], strides[1:], dilations[1:])
    return (rest - 1) * strides[0] + dilations[0] * (kernels[0] - 1) + 1


@right("my_receptive_field")
def by_gradient(kernels, strides, dilations):
    x = torch.ones(1, 1, 400, requires_grad=True)
    y = x
    for k, s, d in zip(kernels, strides, dilations, strict=True):
        y = F.conv1d(y, torch.ones(1, 1, k), stride=s, dilation=d)
    y[0, 0, 0].backward()
    return int(x.grad.nonzero().max()) + 1


@right("my_receptive_field")
def with_numpy(kernels, strides, dilations):
    import numpy as np

    steps = np.concatenate([[1], np.cumprod(strides)[:-1]])
    return int(1 + ((np.array(kernels) - 1) * np.array(dilations) * steps).sum())


@wrong("my_receptive_field", "no_strides")
def sum_of_kernels(kernels, strides, dilations):
    return 1 + sum((k - 1) * d for k, d in zip(kernels, dilations, strict=True))


@wrong("my_receptive_field", "own_stride")
def stride_first(kernels, strides, dilations):
    rows, step = 1, 1
    for k, s, d in zip(kernels, strides, dilations, strict=True):
        step *= s
        rows += step * d * (k - 1)
    return rows


@wrong("my_receptive_field", "no_dilations", "ignored dilations")
def undilated_field(kernels, strides, dilations):
    return forwards(kernels, strides, [1] * len(kernels))


@wrong("my_receptive_field", "whole_kernels")
def kernels_added(kernels, strides, dilations):
    rows, step = 1, 1
    for k, s, d in zip(kernels, strides, dilations, strict=True):
        rows += step * d * k
        step *= s
    return rows


@wrong("my_receptive_field", "one_short")
def from_zero(kernels, strides, dilations):
    return forwards(kernels, strides, dilations) - 1


@wrong("my_receptive_field", "last_stride")
def previous_stride(kernels, strides, dilations):
    rows, step = 1, 1
    for k, s, d in zip(kernels, strides, dilations, strict=True):
        rows += step * d * (k - 1)
        step = s
    return rows


@wrong("my_receptive_field", "backwards")
def from_the_top(kernels, strides, dilations):
    return forwards(kernels[::-1], strides[::-1], dilations[::-1])


@wrong("my_receptive_field", "value")
def product_of_kernels(kernels, strides, dilations):
    total = 1
    for k in kernels:
        total *= k
    return total


@wrong("my_receptive_field", "no_strides", "no_dilations")
def kernels_alone(kernels, strides, dilations):
    return 1 + sum(k - 1 for k in kernels)


@wrong("my_receptive_field", "type")
def a_list(kernels, strides, dilations):
    return [forwards(kernels[: n + 1], strides[: n + 1], dilations[: n + 1]) for n in range(len(kernels))]


# ----------------------------------------------------------------------------------------- my_conv2d


@right("my_conv2d")
def shifted_images(x, weight, stride):
    k = weight.shape[2]
    rows, columns = ((n - k) // stride + 1 for n in x.shape[2:])
    parts = [
        einsum(
            "bcij,oc->boij",
            x[:, :, u:, v:][:, :, ::stride, ::stride][:, :, :rows, :columns],
            weight[:, :, u, v],
        )
        for u in range(k)
        for v in range(k)
    ]
    return torch.stack(parts).sum(0)


@right("my_conv2d")
def place_by_place(x, weight, stride):
    k = weight.shape[2]
    rows, columns = ((n - k) // stride + 1 for n in x.shape[2:])
    out = torch.zeros(len(x), len(weight), rows, columns)
    for i in range(rows):
        for j in range(columns):
            window = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, :, i, j] = einsum("bcuv,ocuv->bo", window, weight)
    return out


@right("my_conv2d")
def strided_windows(x, weight, stride):
    k = weight.shape[-1]
    windows = x.unfolded(2, k, stride) if hasattr(x, "unfolded") else None
    if windows is None:
        down = [x[:, :, u : x.shape[2] - k + u + 1 : stride] for u in range(k)]
        across = [[d[..., v : x.shape[3] - k + v + 1 : stride] for v in range(k)] for d in down]
        windows = torch.stack([torch.stack(row, -1) for row in across], -2)
    return einsum("bcijuv,ocuv->boij", windows, weight)


@right("my_conv2d")
def matrix_of_windows(x, weight, stride):
    k = weight.shape[2]
    rows, columns = ((n - k) // stride + 1 for n in x.shape[2:])
    windows = torch.stack(
        [
            x[:, :, i * stride : i * stride + k, j * stride : j * stride + k].flatten(1)
            for i in range(rows)
            for j in range(columns)
        ],
        -1,
    )
    return (weight.flatten(1) @ windows).unflatten(-1, (rows, columns))


@right("my_conv2d")
def in_single_precision(x, weight, stride):
    return shifted_images(x.float(), weight.float(), stride)


@wrong("my_conv2d", "rule", "without unfold, conv2d, im2col, conv_transpose2d")
def library_call(x, weight, stride):
    return F.conv2d(x, weight, stride=stride)


@wrong("my_conv2d", "flipped")
def true_convolution(x, weight, stride):
    return shifted_images(x, weight.flip(-1, -2), stride)


@wrong("my_conv2d", "no_stride", "shape")
def every_place(x, weight, stride):
    return shifted_images(x, weight, 1)


@wrong("my_conv2d", "transposed_kernel")
def kernel_turned(x, weight, stride):
    return shifted_images(x, weight.transpose(2, 3), stride)


@wrong("my_conv2d", "exception")
def sizes_do_not_fit(x, weight, stride):
    total = 0
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            total = total + einsum("bcij,oc->boij", x[:, :, u::stride, v::stride], weight[:, :, u, v])
    return total


@wrong("my_conv2d", "shape", "axis lost")
def channels_out_lost(x, weight, stride):
    return shifted_images(x, weight, stride).sum(1)


@wrong("my_conv2d", "mean_of_channels")
def averaged_channels(x, weight, stride):
    return shifted_images(x, weight, stride) / x.shape[1]


@wrong("my_conv2d", "mean_of_window")
def averaged_window(x, weight, stride):
    return shifted_images(x, weight, stride) / weight.shape[2] ** 2


@wrong("my_conv2d", "first_channel")
def grey(x, weight, stride):
    return shifted_images(x[:, :1], weight[:, :1], stride)


@wrong("my_conv2d", "flipped", "mean_of_window")
def both_slips(x, weight, stride):
    return shifted_images(x, weight.flip(2, 3), stride) / weight[0, 0].numel()


@wrong("my_conv2d", "stride_of_taps", "shape", "exception")
def dilated_instead(x, weight, stride):
    k = weight.shape[2]
    rows, columns = (n - stride * (k - 1) for n in x.shape[2:])
    total = 0
    for u in range(k):
        for v in range(k):
            piece = x[:, :, u * stride : u * stride + rows, v * stride : v * stride + columns]
            total = total + einsum("bcij,oc->boij", piece, weight[:, :, u, v])
    return total


# ------------------------------------------------------------------------------- my_conv_transpose2d


@right("my_conv_transpose2d")
def added_by_taps(y, weight, stride, size):
    x = torch.zeros(len(y), weight.shape[1], *size)
    rows, columns = y.shape[2:]
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            sent = einsum("boij,oc->bcij", y, weight[:, :, u, v])
            x[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride] += sent
    return x


@right("my_conv_transpose2d")
def added_by_places(y, weight, stride, size):
    x = torch.zeros(len(y), weight.shape[1], *size)
    k = weight.shape[2]
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            patch = einsum("bo,ocuv->bcuv", y[:, :, i, j], weight)
            x[:, :, i * stride : i * stride + k, j * stride : j * stride + k] += patch
    return x


@right("my_conv_transpose2d")
def zeros_between(y, weight, stride, size):
    b, o, rows, columns = y.shape
    k = weight.shape[2]
    spread = torch.zeros(b, o, size[0] + k - 1, size[1] + k - 1)
    spread[:, :, k - 1 : k - 1 + stride * rows : stride, k - 1 : k - 1 + stride * columns : stride] = y
    total = 0
    for u in range(k):
        for v in range(k):
            piece = spread[:, :, k - 1 - u : k - 1 - u + size[0], k - 1 - v : k - 1 - v + size[1]]
            total = total + einsum("boij,oc->bcij", piece, weight[:, :, u, v])
    return total


@right("my_conv_transpose2d")
def padded_and_added(y, weight, stride, size):
    k, total = weight.shape[2], 0
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            patch = einsum("bo,ocuv->bcuv", y[:, :, i, j], weight)
            left, top = j * stride, i * stride
            total = total + F.pad(patch, (left, size[1] - left - k, top, size[0] - top - k))
    return total


@right("my_conv_transpose2d")
def index_added(y, weight, stride, size):
    x = torch.zeros(len(y), weight.shape[1], size[0] * size[1])
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            rows = torch.arange(y.shape[2]) * stride + u
            columns = torch.arange(y.shape[3]) * stride + v
            places = (rows[:, None] * size[1] + columns).flatten()
            x = x.index_add(2, places, einsum("boij,oc->bcij", y, weight[:, :, u, v]).flatten(2))
    return x.unflatten(2, size)


@wrong("my_conv_transpose2d", "overwritten")
def assigned(y, weight, stride, size):
    x = torch.zeros(len(y), weight.shape[1], *size)
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            sent = einsum("boij,oc->bcij", y, weight[:, :, u, v])
            x[:, :, u : u + stride * y.shape[2] : stride, v : v + stride * y.shape[3] : stride] = sent
    return x


@wrong("my_conv_transpose2d", "flipped")
def turned_round(y, weight, stride, size):
    return added_by_taps(y, weight.flip(2, 3), stride, size)


@wrong("my_conv_transpose2d", "transposed_kernel")
def rows_for_columns(y, weight, stride, size):
    return added_by_taps(y, weight.mT, stride, size)


@wrong("my_conv_transpose2d", "no_stride")
def close_together(y, weight, stride, size):
    return added_by_taps(y, weight, 1, size)


@wrong("my_conv_transpose2d", "averaged")
def mean_of_windows(y, weight, stride, size):
    ones = added_by_taps(torch.ones_like(y[:1, :1]), torch.ones_like(weight[:1, :1]), stride, size)
    return added_by_taps(y, weight, stride, size) / ones.clamp(min=1)


@wrong("my_conv_transpose2d", "rule", "without fold, conv2d, col2im, conv_transpose2d, autograd")
def by_autograd(y, weight, stride, size):
    x = torch.zeros(len(y), weight.shape[1], *size)
    return torch.func.vjp(lambda x: shifted_images(x, weight, stride), x)[1](y)[0]


@wrong("my_conv_transpose2d", "shape")
def size_from_formula(y, weight, stride, size):
    k = weight.shape[2]
    smaller = tuple(stride * (n - 1) + k for n in y.shape[2:])
    return added_by_taps(y, weight, stride, smaller)


@wrong("my_conv_transpose2d", "exception", "shape")
def channels_mixed_up(y, weight, stride, size):
    return added_by_taps(y, weight.transpose(0, 1), stride, size)


@wrong("my_conv_transpose2d", "exception")
def convolved_again(y, weight, stride, size):
    return shifted_images(y, weight, stride)


@wrong("my_conv_transpose2d", "sign")
def negative(y, weight, stride, size):
    return -added_by_taps(y, weight, stride, size)


# ----------------------------------------------------------------------------------- my_unseen_image


@right("my_unseen_image")
def outer_gap():
    gap = (torch.arange(9) % 3 == 2).double()
    return ((gap[:, None] + gap) > 0).double()


@right("my_unseen_image")
def every_third():
    image = torch.zeros(9, 9)
    image[2::3] = 3.0
    image[:, 2::3] = -1.0
    return image


@wrong("my_unseen_image", "value")
def black():
    return torch.zeros(9, 9)


@wrong("my_unseen_image", "value")
def white():
    return torch.ones(9, 9)


@wrong("my_unseen_image", "value")
def too_few():
    image = torch.zeros(9, 9)
    image[2::3, 2::3] = 1.0
    return image


@wrong("my_unseen_image", "value")
def batched():
    return every_third()[None, None]


@wrong("my_unseen_image", "value")
def checkerboard():
    return (torch.arange(9)[:, None] + torch.arange(9)) % 2 * 2.0 - 1


# ---------------------------------------------------------------------------- my_inception_depthwise


def branches(x, square, row, column):
    g, k = len(square), row.shape[3]
    identity, a, b, c = x.chunk(4, 1)
    a = F.conv2d(a, square, padding=1, groups=g)
    b = F.conv2d(b, row, padding=(0, k // 2), groups=g)
    c = F.conv2d(c, column, padding=(k // 2, 0), groups=g)
    return [identity, a, b, c]


@right("my_inception_depthwise")
def mended(x, square, row, column):
    return torch.cat(branches(x, square, row, column), 1)


@right("my_inception_depthwise")
def with_split(x, square, row, column):
    g = square.shape[0]
    parts = torch.split(x, g, dim=1)
    outs = [parts[0]]
    for part, kernel in zip(parts[1:], (square, row, column), strict=True):
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
        outs.append(F.conv2d(part, kernel, padding=padding, groups=g))
    return torch.cat(outs, dim=1)


@right("my_inception_depthwise")
def padding_same(x, square, row, column):
    g = len(square)
    parts = [
        F.conv2d(x[:, (n + 1) * g : (n + 2) * g], w, padding="same", groups=g)
        for n, w in enumerate((square, row, column))
    ]
    return torch.cat([x[:, :g], *parts], 1)


@right("my_inception_depthwise")
def padded_by_hand(x, square, row, column):
    g, half = len(square), row.shape[3] // 2
    a, b, c = x[:, g : 2 * g], x[:, 2 * g : 3 * g], x[:, 3 * g :]
    a = F.conv2d(F.pad(a, (1, 1, 1, 1)), square, groups=g)
    b = F.conv2d(F.pad(b, (half, half, 0, 0)), row, groups=g)
    c = F.conv2d(F.pad(c, (0, 0, half, half)), column, groups=g)
    return torch.cat([x[:, :g], a, b, c], 1)


@right("my_inception_depthwise")
def written_into(x, square, row, column):
    out = x.clone()
    g = len(square)
    for n, part in enumerate(branches(x, square, row, column)):
        out[:, n * g : (n + 1) * g] = part
    return out


@wrong("my_inception_depthwise", "exception")
def one_bug_left(x, square, row, column):
    identity, a, b, c = x.chunk(4, 1)
    g, k = len(square), row.shape[3]
    b = F.conv2d(b, row, padding=(k // 2, 0), groups=g)
    a = F.conv2d(a, square, padding=1, groups=g)
    c = F.conv2d(c, column, padding=(k // 2, 0), groups=g)
    return torch.cat([identity, a, b, c], 1)


@wrong("my_inception_depthwise", "value")
def other_bug_left(x, square, row, column):
    a, b, c, identity = x.chunk(4, 1)
    g, k = len(square), row.shape[3]
    a = F.conv2d(a, square, padding=1, groups=g)
    b = F.conv2d(b, row, padding=(0, k // 2), groups=g)
    c = F.conv2d(c, column, padding=(k // 2, 0), groups=g)
    return torch.cat([identity, a, b, c], 1)


@wrong("my_inception_depthwise", "bands_exchanged")
def wrong_channels(x, square, row, column):
    identity, a, b, c = x.chunk(4, 1)
    return mended(torch.cat([identity, a, c, b], 1), square, row, column)


@wrong("my_inception_depthwise", "all_convolved")
def nothing_passed_on(x, square, row, column):
    parts = branches(x, square, row, column)
    parts[0] = F.conv2d(parts[0], square, padding=1, groups=len(square))
    return torch.cat(parts, 1)


@wrong("my_inception_depthwise", "identity_last", "another order", "value")
def identity_at_the_end(x, square, row, column):
    return mended(x, square, row, column).roll(-len(square), 1)


@wrong("my_inception_depthwise", "shape", "value")
def parts_added(x, square, row, column):
    return sum(branches(x, square, row, column))


@wrong("my_inception_depthwise", "shape")
def without_identity(x, square, row, column):
    return torch.cat(branches(x, square, row, column)[1:], 1)


@wrong("my_inception_depthwise", "exception", "shape")
def no_padding_at_all(x, square, row, column):
    identity, a, b, c = x.chunk(4, 1)
    g = len(square)
    return torch.cat(
        [identity, *(F.conv2d(p, w, groups=g) for p, w in ((a, square), (b, row), (c, column)))], 1
    )


@wrong("my_inception_depthwise", "exception")
def forgot_groups(x, square, row, column):
    identity, a, b, c = x.chunk(4, 1)
    k = row.shape[3]
    return torch.cat(
        [
            identity,
            F.conv2d(a, square, padding=1),
            F.conv2d(b, row, padding=(0, k // 2)),
            F.conv2d(c, column, padding=(k // 2, 0)),
        ],
        1,
    )


@wrong("my_inception_depthwise", "square_for_all")
def one_kernel_for_all(x, square, row, column):
    identity, *rest = x.chunk(4, 1)
    return torch.cat([identity, *(F.conv2d(p, square, padding=1, groups=len(square)) for p in rest)], 1)


# ---------------------------------------------------------------------------------- my_merged_kernel


@right("my_merged_kernel")
def filled_in(square, row, column):
    g, k = len(square), row.shape[3]
    h = k // 2
    out = torch.zeros(4 * g, 1, k, k)
    out[:g, 0, h, h] = 1
    out[g : 2 * g, :, h - 1 : h + 2, h - 1 : h + 2] = square
    out[2 * g : 3 * g, :, h] = row[:, :, 0]
    out[3 * g :, :, :, h] = column[..., 0]
    return out


@right("my_merged_kernel")
def padded(square, row, column):
    g, h = len(square), row.shape[3] // 2
    one = F.pad(torch.ones(g, 1, 1, 1), (h, h, h, h))
    return torch.cat(
        [one, F.pad(square, (h - 1,) * 4), F.pad(row, (0, 0, h, h)), F.pad(column, (h, h, 0, 0))], 0
    )


@right("my_merged_kernel")
def measured(square, row, column):
    g, k = len(square), row.shape[3]
    impulse = torch.zeros(1, 4 * g, k, k)
    impulse[:, :, k // 2, k // 2] = 1
    return mended(impulse, square, row, column)[0][:, None].flip(2, 3)


@right("my_merged_kernel")
def by_masks(square, row, column):
    g, k = len(square), row.shape[3]
    middle = (torch.arange(k) == k // 2).double()
    point = (middle[:, None] * middle).expand(g, 1, k, k)
    return torch.cat([point, F.pad(square, [k // 2 - 1] * 4), middle[:, None] * row, column * middle])


@right("my_merged_kernel")
def kernel_by_kernel(square, row, column):
    out, k = [], row.shape[3]
    for n in range(4 * len(square)):
        kernel = torch.zeros(k, k)
        kind, m, h = n // len(square), n % len(square), k // 2
        if kind == 0:
            kernel[h, h] = 1
        elif kind == 1:
            kernel[h - 1 : h + 2, h - 1 : h + 2] = square[m, 0]
        elif kind == 2:
            kernel[h, :] = row[m, 0, 0]
        else:
            kernel[:, h] = column[m, 0, :, 0]
        out.append(kernel)
    return torch.stack(out)[:, None]


@wrong("my_merged_kernel", "zero_identity")
def no_identity(square, row, column):
    kernel = filled_in(square, row, column)
    kernel[: len(square)] = 0
    return kernel


@wrong("my_merged_kernel", "identity_of_ones")
def all_ones(square, row, column):
    kernel = filled_in(square, row, column)
    kernel[: len(square)] = 1
    return kernel


@wrong("my_merged_kernel", "kernels_turned")
def bands_turned(square, row, column):
    kernel = filled_in(square, row, column)
    g = len(square)
    return torch.cat([kernel[: 2 * g], kernel[2 * g :].transpose(2, 3)])


@wrong("my_merged_kernel", "in_the_corner")
def top_left(square, row, column):
    g, k = len(square), row.shape[3]
    out = torch.zeros(4 * g, 1, k, k)
    out[:g, 0, 0, 0] = 1
    out[g : 2 * g, :, :3, :3] = square
    out[2 * g : 3 * g, :, 0] = row[:, :, 0]
    out[3 * g :, :, :, 0] = column[..., 0]
    return out


@wrong("my_merged_kernel", "bands_spread")
def broadcast(square, row, column):
    g, k = len(square), row.shape[3]
    kernel = filled_in(square, row, column)
    return torch.cat([kernel[: 2 * g], row.expand(g, 1, k, k), column.expand(g, 1, k, k)])


@wrong("my_merged_kernel", "shape", "axis of length 1")
def axis_lost(square, row, column):
    return filled_in(square, row, column)[:, 0]


@wrong("my_merged_kernel", "shape")
def square_only(square, row, column):
    return torch.cat([square, square])


@wrong("my_merged_kernel", "another_order")
def identity_last(square, row, column):
    return filled_in(square, row, column).roll(-len(square), 0)


@wrong("my_merged_kernel", "part of the gradient", "no gradient")
def detached(square, row, column):
    return filled_in(square.detach(), row.detach(), column.detach())


@wrong("my_merged_kernel", "no_square")
def square_forgotten(square, row, column):
    return filled_in(torch.zeros_like(square), row, column)


@wrong("my_merged_kernel", "zero_identity", "kernels_turned")
def two_at_once(square, row, column):
    kernel = bands_turned(square, row, column)
    kernel[: len(square)] = 0
    return kernel


# --------------------------------------------------------------------------- my_aggregation_backward


def pieces(x):
    padded = F.pad(x, (1, 1, 1, 1))
    rows, columns = x.shape[2:]
    return torch.stack([padded[:, :, u : u + rows, v : v + columns] for u in range(3) for v in range(3)], 2)


@right("my_aggregation_backward")
def products(dy, x, groups):
    return (dy[:, :, None] * pieces(x)).unflatten(1, (-1, groups)).sum(1)


@right("my_aggregation_backward")
def unfolded(dy, x, groups):
    b, c, i, j = x.shape
    windows = F.unfold(x, 3, padding=1).view(b, c // groups, groups, 9, i, j)
    return torch.einsum("bmgqij,bmgij->bgqij", windows, dy.view(b, c // groups, groups, i, j))


@right("my_aggregation_backward")
def channel_by_channel(dy, x, groups):
    out = torch.zeros(len(x), groups, 9, *x.shape[2:])
    windows = pieces(x)
    for m in range(x.shape[1]):
        out[:, m % groups] += dy[:, m, None] * windows[:, m]
    return out


@right("my_aggregation_backward")
def strided_channels(dy, x, groups):
    windows = pieces(x) * dy.unsqueeze(2)
    return torch.stack([windows[:, g::groups].sum(1) for g in range(groups)], 1)


@right("my_aggregation_backward")
def single(dy, x, groups):
    return products(dy.float(), x.float(), groups)


@wrong("my_aggregation_backward", "divided")
def neighbours_share(dy, x, groups):
    return (dy[:, :, None] * pieces(x)).unflatten(1, (groups, -1)).sum(2)


@wrong("my_aggregation_backward", "taps_exchanged")
def column_by_column(dy, x, groups):
    return products(dy, x, groups).unflatten(2, (3, 3)).transpose(2, 3).flatten(2, 3)


@wrong("my_aggregation_backward", "taps_flipped")
def last_tap_first(dy, x, groups):
    return products(dy, x, groups).flip(2)


@wrong("my_aggregation_backward", "moved_dy")
def other_moved(dy, x, groups):
    return (x[:, :, None] * pieces(dy)).unflatten(1, (-1, groups)).sum(1)


@wrong("my_aggregation_backward", "mean_of_channels")
def averaged(dy, x, groups):
    return (dy[:, :, None] * pieces(x)).unflatten(1, (-1, groups)).mean(1)


@wrong("my_aggregation_backward", "wrapped")
def rolled(dy, x, groups):
    moved = torch.stack([x.roll((1 - q // 3, 1 - q % 3), (2, 3)) for q in range(9)], 2)
    return (dy[:, :, None] * moved).unflatten(1, (-1, groups)).sum(1)


@wrong("my_aggregation_backward", "rule", "without autograd")
def with_autograd(dy, x, groups):
    w = torch.zeros(len(x), groups, 9, *x.shape[2:])
    from course_lib.layers.conv import small_kernel_aggregation

    return torch.func.vjp(lambda w: small_kernel_aggregation(x, w), w)[1](dy)[0]


@wrong("my_aggregation_backward", "shape")
def not_summed(dy, x, groups):
    return dy[:, :, None] * pieces(x)


@wrong("my_aggregation_backward", "shape")
def summed_over_places(dy, x, groups):
    return products(dy, x, groups).sum((-2, -1))


@wrong("my_aggregation_backward", "ignored dy")
def no_dy(dy, x, groups):
    return pieces(x).unflatten(1, (-1, groups)).sum(1)


@wrong("my_aggregation_backward", "divided", "mean_of_channels")
def two_of_them(dy, x, groups):
    return (dy[:, :, None] * pieces(x)).unflatten(1, (groups, -1)).mean(2)


# --------------------------------------------------------------------------------- my_tower_in_tiles


def tower(x, first, second):
    return F.conv2d(F.relu(F.conv2d(x, first, padding=1)), second, padding=1)


@right("my_tower_in_tiles")
def halo_of_two(x, first, second, rows):
    tiles = []
    for top in range(0, x.shape[2], rows):
        bottom = min(top + rows, x.shape[2])
        start, stop = max(0, top - 2), min(x.shape[2], bottom + 2)
        tiles.append(tower(x[:, :, start:stop], first, second)[:, :, top - start : bottom - start])
    return torch.cat(tiles, 2)


@right("my_tower_in_tiles")
def zeroed(x, first, second, rows):
    height, tiles = x.shape[2], []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        piece = x[:, :, max(top - 2, 0) : bottom + 2]
        above, below = max(2 - top, 0), max(bottom + 2 - height, 0)
        h = F.relu(F.conv2d(F.pad(piece, (1, 1, above, below)), first))
        keep = torch.arange(top - 1, bottom + 1)
        h = h * ((keep >= 0) & (keep < height))[:, None]
        tiles.append(F.conv2d(F.pad(h, (1, 1, 0, 0)), second))
    return torch.cat(tiles, 2)


@right("my_tower_in_tiles")
def row_by_row(x, first, second, rows):
    out = []
    for r in range(x.shape[2]):
        start, stop = max(0, r - 2), min(x.shape[2], r + 3)
        out.append(tower(x[:, :, start:stop], first, second)[:, :, r - start : r - start + 1])
    return torch.cat(out, 2)


@right("my_tower_in_tiles")
def written_in_place(x, first, second, rows):
    y = torch.zeros_like(x)
    for top in range(0, x.shape[2], rows):
        start = max(0, top - 2)
        tile = tower(x[:, :, start : top + rows + 2], first, second)
        n = y[:, :, top : top + rows].shape[2]
        y[:, :, top : top + rows] = tile[:, :, top - start : top - start + n]
    return y


@right("my_tower_in_tiles")
def same_padding(x, first, second, rows):
    tiles, top = [], 0
    while top < x.shape[2]:
        start = top - min(top, 2)
        h = torch.relu(F.conv2d(x[:, :, start : top + rows + 2], first, padding="same"))
        tiles.append(F.conv2d(h, second, padding="same")[:, :, top - start : top - start + rows])
        top += rows
    return torch.cat(tiles, dim=2)


def tiled(x, first, second, rows, above, below):
    tiles = []
    for top in range(0, x.shape[2], rows):
        bottom = min(top + rows, x.shape[2])
        start, stop = max(0, top - above), min(x.shape[2], bottom + below)
        tiles.append(tower(x[:, :, start:stop], first, second)[:, :, top - start : bottom - start])
    return torch.cat(tiles, 2)


@wrong("my_tower_in_tiles", "no tensor above a size")
def all_at_once(x, first, second, rows):
    return tower(x, first, second)


@wrong("my_tower_in_tiles", "no_halo")
def bare_tiles(x, first, second, rows):
    return tiled(x, first, second, rows, 0, 0)


@wrong("my_tower_in_tiles", "halo_of_one")
def one_row(x, first, second, rows):
    return tiled(x, first, second, rows, 1, 1)


@wrong("my_tower_in_tiles", "above_only")
def nothing_below(x, first, second, rows):
    return tiled(x, first, second, rows, 2, 0)


@wrong("my_tower_in_tiles", "below_only")
def nothing_above(x, first, second, rows):
    return tiled(x, first, second, rows, 0, 2)


@wrong("my_tower_in_tiles", "padded_early")
def padded_by_two(x, first, second, rows):
    padded, tiles = F.pad(x, (1, 1, 2, 2)), []
    for top in range(0, x.shape[2], rows):
        bottom = min(top + rows, x.shape[2])
        h = F.relu(F.conv2d(padded[:, :, top : bottom + 4], first))
        tiles.append(F.conv2d(F.pad(h, (1, 1, 0, 0)), second))
    return torch.cat(tiles, 2)


@wrong("my_tower_in_tiles", "exception")
def second_first(x, first, second, rows):
    return halo_of_two(x, second, first, rows)


@wrong("my_tower_in_tiles", "no_relu")
def linear(x, first, second, rows):
    tiles = []
    for top in range(0, x.shape[2], rows):
        start = max(0, top - 2)
        n = min(rows, x.shape[2] - top)
        h = F.conv2d(x[:, :, start : top + rows + 2], first, padding=1)
        tiles.append(F.conv2d(h, second, padding=1)[:, :, top - start : top - start + n])
    return torch.cat(tiles, 2)


@wrong("my_tower_in_tiles", "shape", "last_tile_lost", "exception")
def whole_tiles_only(x, first, second, rows):
    return halo_of_two(x, first, second, rows)[:, :, : x.shape[2] // rows * rows]


@wrong("my_tower_in_tiles", "relu_last")
def activated_twice(x, first, second, rows):
    return halo_of_two(x, first, second, rows).relu()


@wrong("my_tower_in_tiles", "no_halo", "no_relu")
def neither(x, first, second, rows):
    tiles = []
    for top in range(0, x.shape[2], rows):
        h = F.conv2d(x[:, :, top : top + rows], first, padding=1)
        tiles.append(F.conv2d(h, second, padding=1))
    return torch.cat(tiles, 2)


# --------------------------------------------------------------------------------------- my_features


@right("my_features")
def by_shifts(x, weight):
    return shifted_images(x[:, None], weight, 1).relu().mean((2, 3))


@right("my_features")
def by_library(x, weight):
    return F.relu(F.conv2d(x.unsqueeze(1), weight)).mean(dim=(-2, -1))


@right("my_features")
def flattened(x, weight):
    return F.conv2d(x[:, None], weight).flatten(2).clamp(min=0).mean(-1)


@right("my_features")
def pooled(x, weight):
    return F.adaptive_avg_pool2d(torch.relu(F.conv2d(x[:, None], weight)), 1).flatten(1)


@right("my_features")
def image_by_image(images, kernels):
    return torch.stack([F.conv2d(image[None], kernels).relu().mean((1, 2)) for image in images])


@wrong("my_features", "no_relu")
def straight(x, weight):
    return F.conv2d(x[:, None], weight).mean((2, 3))


@wrong("my_features", "mean_first")
def late_relu(x, weight):
    return F.conv2d(x[:, None], weight).mean((2, 3)).relu()


@wrong("my_features", "summed")
def total(x, weight):
    return F.conv2d(x[:, None], weight).relu().sum((2, 3))


@wrong("my_features", "largest")
def max_pooled(x, weight):
    return F.conv2d(x[:, None], weight).relu().amax((2, 3))


@wrong("my_features", "shape")
def maps(x, weight):
    return F.conv2d(x[:, None], weight).relu()


@wrong("my_features", "shape", "axis left")
def rows_left(x, weight):
    return F.conv2d(x[:, None], weight).relu().mean(-1)


@wrong("my_features", "exception")
def no_channel(x, weight):
    return F.conv2d(x, weight).relu().mean((2, 3))


@wrong("my_features", "value")
def padded_convolution(x, weight):
    return F.conv2d(x[:, None], weight, padding=1).relu().mean((2, 3))


@wrong("my_features", "value")
def flipped_kernels(x, weight):
    return F.conv2d(x[:, None], weight.flip(2, 3)).relu().mean((2, 3))


@wrong("my_features", "shape", "axis of length 1")
def axes_kept(x, weight):
    return F.conv2d(x[:, None], weight).relu().mean((2, 3), keepdim=True)


@wrong("my_features", "value")
def absolute(x, weight):
    return F.conv2d(x[:, None], weight).abs().mean((2, 3))
