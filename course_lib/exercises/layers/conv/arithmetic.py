"""Sizes, receptive fields, the convolution from shifts and its adjoint, what a stride does not see."""

import math

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal, without
from course_lib.exercises.layers.conv._chapter import exercises


def _sizes():
    yield case("a kernel of two", 5, 2, 1, 0, 1)
    yield case("padding on both sides", 5, 3, 1, 1, 1)
    yield case("a stride that fits", 7, 3, 2, 0, 1)
    yield case("a stride that leaves a rest", 8, 3, 2, 0, 1)
    yield case("dilation", 9, 3, 1, 0, 2)
    yield case("all at once", 32, 5, 3, 2, 2)
    yield case("a kernel of one", 6, 1, 2, 0, 3)


@exercises.add(
    cases=_sizes,
    hints=(
        "From the first entry of a dilated kernel to its last are d (k - 1) + 1 places.",
        "Padded, the axis has i + 2 p entries; the kernel starts at every s-th place at which it still fits.",
    ),
)
def my_output_size(i, k, s, p, d):
    x, weight = torch.empty(1, 1, i, device="meta"), torch.empty(1, 1, k, device="meta")
    return F.conv1d(x, weight, stride=s, padding=p, dilation=d).shape[2]


@my_output_size.mistakes(
    one_sided="The padding stands on both sides.",
    no_padding="Where is the padding?",
    dilated_too_far="k taps have k - 1 gaps. You dilate as if there were k.",
    no_dilation="Where is the dilation? The kernel reaches further than its k entries.",
    first_place_lost="One place is missing: the kernel also fits where it begins.",
    rounded_up="The last step may not fit: round down.",
    not_rounded="A size is an integer: the rest of the division is lost.",
    divided_late="Divide by the stride first, then add the one: the first place takes no step.",
    no_stride="Where is the stride?",
    one_too_many="A dilated kernel reaches over d (k - 1) + 1 entries: the one is missing, and you count a place too many.",
    same="This is the size with just so much padding that a stride of one changes nothing; here p and k are given.",
)
def _(i, k, s, p, d, *, wrong):
    reach = k if wrong.no_dilation else d * k if wrong.dilated_too_far else d * (k - 1) + 1
    room = i + (0 if wrong.no_padding else p if wrong.one_sided else 2 * p) - reach
    if wrong.same:
        return -(-i // s)
    if wrong.one_too_many:
        return (room + 1) // s + 1
    if wrong.divided_late:
        return (room + 1) // s
    if wrong.not_rounded:
        return room / s + 1
    steps = room if wrong.no_stride else -(-room // s) if wrong.rounded_up else room // s
    return steps if wrong.first_place_lost else steps + 1


def _transposed_sizes():
    yield case("stride one", 3, 2, 1, 0, 1, 0)
    yield case("stride two", 4, 3, 2, 0, 1, 0)
    yield case("padding, which makes it smaller", 4, 3, 1, 1, 1, 0)
    yield case("entries that are added at the end", 4, 3, 2, 1, 1, 1)
    yield case("dilation", 4, 3, 2, 1, 2, 0)
    yield case("all at once", 11, 5, 3, 2, 2, 2)


@exercises.add(
    cases=_transposed_sizes,
    hints=(
        "Each of the i entries writes a kernel; two neighbours write s places apart.",
        "The first starts at 0, the last at s (i - 1) and ends d (k - 1) further; then p places are cut on each side.",
    ),
)
def my_transposed_size(i, k, s, p, d, a):
    x, weight = torch.empty(1, 1, i, device="meta"), torch.empty(1, 1, k, device="meta")
    return F.conv_transpose1d(x, weight, stride=s, padding=p, dilation=d, output_padding=a).shape[2]


@my_transposed_size.mistakes(
    padding_added="Here padding makes the result smaller: p is the padding of the convolution that is undone.",
    one_sided="The padding is cut on both sides.",
    no_padding="Where is the padding?",
    gap_too_many="i entries have i - 1 steps between them. You count i.",
    nothing_added="The entries at the end are missing.",
    added_twice="The entries are added at the end only, not on both sides.",
    kernel_too_long="A dilated kernel reaches over d (k - 1) + 1 places, not over d k.",
    no_dilation="Where is the dilation?",
    last_place_lost="One place is missing: the last kernel has an end, too.",
    convolution="This is the size after a convolution; here each entry becomes a whole kernel.",
)
def _(i, k, s, p, d, a, *, wrong):
    if wrong.convolution:
        return (i + 2 * p - d * (k - 1) - 1) // s + 1
    steps = s * (i if wrong.gap_too_many else i - 1)
    reach = d * k if wrong.kernel_too_long else k if wrong.no_dilation else d * (k - 1) + 1
    cut = 0 if wrong.no_padding else p if wrong.one_sided else -2 * p if wrong.padding_added else 2 * p
    added = 0 if wrong.nothing_added else 2 * a if wrong.added_twice else a
    return steps + reach - cut + added - wrong.last_place_lost


def _stacks():
    yield case("one layer", [3], [1], [1])
    yield case("two layers", [3, 3], [1, 1], [1, 1])
    yield case("a stride, which widens what comes after it", [3, 3], [2, 1], [1, 1])
    yield case("a stride at the end, which does not", [3, 3], [1, 2], [1, 1])
    yield case("dilation", [3, 3], [1, 1], [1, 4])
    yield case("a kernel of one and a large one", [1, 5], [3, 1], [1, 2])
    yield case("four layers", [3, 3, 3, 2], [2, 1, 2, 1], [1, 2, 1, 3])


@exercises.add(
    cases=_stacks,
    hints=(
        "One output of the last layer sees d (k - 1) + 1 entries of what is before it. Work backwards, or sum up.",
        "A step of one in front of layer l is a step of s_1 s_2 ... s_(l-1) in the input.",
    ),
)
def my_receptive_field(kernels, strides, dilations):
    rows = 1
    for k, s, d in reversed(list(zip(kernels, strides, dilations, strict=True))):
        rows = (rows - 1) * s + d * (k - 1) + 1
    return rows


@my_receptive_field.mistakes(
    no_strides="Strides widen the view of all later layers; yours do not.",
    own_stride="The stride of a layer widens the layers after it, not its own view.",
    no_dilations="Where is the dilation?",
    whole_kernels="You add k a layer: neighbours overlap, so that each layer adds k - 1 steps.",
    one_short="One entry is missing: even without any layer an output sees one.",
    last_stride="You use only the last stride; the steps of all earlier layers multiply.",
    backwards="You go through the layers in the wrong order: the first stride concerns the most.",
    product="The kernels do not multiply: each layer adds d (k - 1) steps.",
    one_gap_too_many="A dilated kernel adds d (k - 1) steps, not d k - 1.",
    dilation_remembered="A dilation widens its own layer alone; only strides multiply into later ones.",
    strides_added="The strides of earlier layers multiply; yours add up.",
)
def _(kernels, strides, dilations, *, wrong):
    layers = list(zip(kernels, strides, dilations, strict=True))
    if wrong.product:
        return math.prod(kernels)
    if wrong.strides_added:
        return 1 + sum((k - 1) * d * max(1, sum(strides[:n])) for n, (k, _, d) in enumerate(layers))
    rows, step = 0 if wrong.one_short else 1, 1
    for k, s, d in layers[::-1] if wrong.backwards else layers:
        own = step * s if wrong.own_stride else step
        if wrong.one_gap_too_many:
            rows, step = rows + (d * k - 1) * step, step * s
            continue
        if wrong.dilation_remembered:
            rows, step = rows + (k - 1) * d * step, step * s * d
            continue
        rows += (k if wrong.whole_kernels else k - 1) * (1 if wrong.no_dilations else d) * own
        step = 1 if wrong.no_strides else s if wrong.last_stride else step * s
    return rows


# ------------------------------------------------------------------- the convolution and its adjoint


def _images():
    yield case("one pixel of output", normal(1, 1, 2, 2), normal(1, 1, 2, 2, seed=1), 1)
    yield case("rows and columns differ", normal(1, 1, 4, 3), normal(1, 1, 2, 2, seed=1), 1)
    yield case("a stride", normal(1, 1, 5, 4), normal(1, 1, 2, 2, seed=1), 2)
    yield case("channels in and out", normal(1, 2, 3, 4), normal(3, 2, 2, 2, seed=1), 1)
    yield case("a batch, a stride that leaves a rest", normal(2, 3, 8, 6), normal(4, 3, 3, 3, seed=1), 2)
    yield case("a kernel of one", normal(2, 2, 5, 5), normal(3, 2, 1, 1, seed=1), 2)


@exercises.add(
    cases=_images,
    rules=[without("unfold", "conv2d", "im2col", "conv_transpose2d")],
    hints=(
        "For one entry (u, v) of the kernel, the pixels that it meets are an image: x shifted by (u, v), every s-th.",
        'x[:, :, u : u + s * rows : s, v : v + s * columns : s] is that image; einsum("bcij,oc->boij") weighs it.',
    ),
)
def my_conv2d(x, weight, stride):
    return F.conv2d(x, weight, stride=stride)


@my_conv2d.mistakes(
    flipped="Your kernel is turned round: what deep learning calls a convolution slides the kernel as it is.",
    transposed_kernel="Rows and columns of the kernel are exchanged.",
    no_stride="You visit every position. The stride says how many to skip.",
    first_entry="Only one entry of the kernel counts in your answer: add up all of them.",
    first_channel="Only the first channel counts: all channels are added up.",
    mean_of_channels="Channels are added up, not averaged.",
    mean_of_window="The window is weighed by the kernel and added up; yours is also divided by its size.",
    padded="There is no padding: the kernel lies in the image as a whole.",
    stride_of_taps="Your kernel is dilated: the stride is between windows, not between the entries of the kernel.",
    shifted_back="roll moves the image the other way: entry (u, v) of the kernel reads x at + u and + v.",
    sum_of_channels="Each channel has kernels of its own: weigh first, then add the channels up.",
    diagonal="Two loops, one in the other: your sum has the entries with u = v alone.",
)
def _(x, weight, stride, *, wrong):
    if wrong.flipped:
        weight = weight.flip(2, 3)
    if wrong.transposed_kernel:
        weight = weight.mT
    if wrong.first_entry:
        weight = weight * F.pad(torch.ones(1, 1), (0, weight.shape[3] - 1, 0, weight.shape[2] - 1))
    if wrong.first_channel:
        x, weight = x[:, :1], weight[:, :1]
    if wrong.shifted_back:
        rows, columns = ((n - weight.shape[2]) // stride * stride + 1 for n in x.shape[2:])
        y = 0
        for u in range(weight.shape[2]):
            for v in range(weight.shape[3]):
                y = y + torch.einsum("bcij,oc->boij", x.roll((u, v), (2, 3)), weight[:, :, u, v])
        return y[:, :, :rows:stride, :columns:stride]
    if wrong.sum_of_channels:
        x, weight = x.sum(1, keepdim=True), weight[:, :1]
    if wrong.diagonal:
        weight = weight * torch.eye(weight.shape[2])
    scale = 1
    if wrong.mean_of_channels:
        scale = x.shape[1]
    if wrong.mean_of_window:
        scale = weight.shape[2] ** 2
    padding = weight.shape[2] // 2 if wrong.padded else 0
    if wrong.stride_of_taps and min(x.shape[2:]) > stride * (weight.shape[2] - 1):
        return F.conv2d(x, weight, dilation=stride)
    return F.conv2d(x, weight, stride=1 if wrong.no_stride else stride, padding=padding) / scale


def _outputs():
    for given in _images():
        x, weight, stride = given.args
        y = F.conv2d(x, weight, stride=stride)
        yield case(given.label, normal(*y.shape, seed=2), weight, stride, tuple(x.shape[2:]))


@exercises.add(
    cases=_outputs,
    rules=[without("fold", "conv2d", "col2im", "conv_transpose2d", "autograd")],
    hints=(
        "Begin with an image of zeros. Whatever the convolution reads, its adjoint adds to, with the same weight.",
        'Add einsum("boij,oc->bcij", y, weight[:, :, u, v]) to the places from which (u, v) was read.',
    ),
)
def my_conv_transpose2d(y, weight, stride, size):
    x = torch.zeros(len(y), weight.shape[1], *size, dtype=y.dtype)
    return torch.func.vjp(lambda x: F.conv2d(x, weight, stride=stride), x)[1](y)[0]


@my_conv_transpose2d.mistakes(
    averaged="You divided by how many windows cover a pixel. That averages; the adjoint adds.",
    overwritten="Later windows overwrite earlier ones: add to what is there.",
    flipped="Your kernel is turned round: each entry goes back to the place where it was read.",
    transposed_kernel="Rows and columns of the kernel are exchanged.",
    no_stride="You write at neighbouring places; windows lie a stride apart.",
    turned="Rows and columns of y are exchanged.",
)
def _(y, weight, stride, size, *, wrong):
    if wrong.flipped:
        weight = weight.flip(2, 3)
    if wrong.transposed_kernel:
        weight = weight.mT
    if wrong.turned:
        y = y.mT.reshape(y.shape)
    if wrong.no_stride:
        stride = 1
    x = torch.zeros(len(y), weight.shape[1], *size)
    covered = torch.zeros(size)
    rows, columns = y.shape[2:]
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            place = (..., slice(u, u + stride * rows, stride), slice(v, v + stride * columns, stride))
            sent = torch.einsum("boij,oc->bcij", y, weight[:, :, u, v])
            x = x.clone()
            x[place] = sent if wrong.overwritten else x[place] + sent
            covered[place] += 1
    return x / covered.clamp(min=1) if wrong.averaged else x


# ------------------------------------------------------------------------------- a counter-example


@exercises.accept(
    hints=(
        "With stride 3 and a kernel of 2, which rows and columns does no window touch?",
        "The kernel covers rows 0, 1, 3, 4, 6, 7, ... Put everything where both row and column are read by nobody.",
    )
)
def my_unseen_image(result):
    image = torch.as_tensor(result).double()
    if image.shape != (9, 9):
        return f"wants an image of 9 by 9 pixels, got the shape {tuple(image.shape)}"
    if not torch.isfinite(image).all() or image.abs().sum() == 0:
        return "wants an image of finite numbers that is not black everywhere"
    kernels = normal(5, 1, 2, 2)
    seen = F.conv2d(image[None, None], kernels, stride=3).abs().max().item()
    if seen > 1e-12:
        return f"is seen: a kernel with random entries answers with {seen:.3g}"
    if (image != 0).sum() < 45:
        return f"hides {int((image != 0).sum())} pixels from all kernels; 45 can be hidden"
    return ""
