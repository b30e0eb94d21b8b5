"""Branches that are one kernel, kernels for every pixel, two layers in tiles, and digits."""

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import case, no_tensor_above, normal, without
from course_lib.exercises.layers.conv._chapter import exercises
from course_lib.layers import conv


def _kernels():
    for label, g, k in (
        ("a channel a branch, long kernels of 3", 1, 3),
        ("two channels, long kernels of 5", 2, 5),
        ("three channels, long kernels of 7", 3, 7),
    ):
        yield label, normal(g, 1, 3, 3), normal(g, 1, 1, k), normal(g, 1, k, 1, seed=1)


def _kernel_cases():
    for label, *kernels in _kernels():
        yield case(label, *kernels)


def _image_cases():
    for label, *kernels in _kernels():
        yield case(label, normal(1, 4 * len(kernels[0]), 3, 4), *kernels)
    _, *kernels = next(_kernels())
    yield case("a batch", normal(2, 4, 6, 7), *kernels)


@exercises.add(
    cases=_image_cases,
    hints=(
        "Print the shape of each branch: a depthwise convolution keeps the size only with the right padding.",
        "A kernel of shape (1, k) runs along a row, over k columns: where does its padding belong?",
        "Each branch has channels of its own: which part of x is passed on, which goes where?",
    ),
)
def my_inception_depthwise(x, square, row, column):
    kernel = _merged(square, row, column)
    return F.conv2d(x, kernel, padding=row.shape[3] // 2, groups=len(kernel))


@my_inception_depthwise.mistakes(
    bands_exchanged="The two long kernels still meet each other's channels.",
    identity_last="The first part is passed on unchanged, not the last.",
    all_convolved="Every part is convolved; the first is passed on as it is.",
    not_grouped="Each channel has one kernel of its own; yours mixes the channels of a part.",
    square_for_all="The square kernel meets all the parts; each part has its own kind of kernel.",
    passed_last="The first part is passed on unchanged; yours is the last one.",
    kernels_exchanged="`row` belongs to the third part, `column` to the fourth; turning them does not make one the other.",
    order="The parts keep their order: identity, square, row, column.",
)
def _(x, square, row, column, *, wrong):
    kernel = _merged(square, row, column)
    g, k = len(square), row.shape[3]
    parts = list(x.chunk(4, 1))
    if wrong.bands_exchanged:
        parts[2], parts[3] = parts[3], parts[2]
    if wrong.all_convolved:
        parts[0] = F.conv2d(parts[0], square, padding=1, groups=g)
    if wrong.square_for_all:
        return torch.cat([parts[0], *(F.conv2d(p, square, padding=1, groups=g) for p in parts[1:])], 1)
    if wrong.not_grouped:
        return torch.cat(
            [
                parts[0],
                F.conv2d(parts[1].sum(1, keepdim=True), square, padding=1),
                F.conv2d(parts[2].sum(1, keepdim=True), row, padding=(0, k // 2)),
                F.conv2d(parts[3].sum(1, keepdim=True), column, padding=(k // 2, 0)),
            ],
            1,
        ) * (1 if g > 1 else 2)
    if wrong.passed_last:
        kernel = kernel.roll(-g, 0)
    if wrong.kernels_exchanged:
        kernel = _merged(square, column.mT, row.mT)
    y = F.conv2d(torch.cat(parts, 1), kernel, padding=k // 2, groups=len(kernel))
    if wrong.order:
        return torch.cat([y[:, g : 2 * g], y[:, :g], y[:, 2 * g :]], 1)
    return y.roll(-g, 1) if wrong.identity_last else y


def _merged(square, row, column):
    """Each branch as a kernel of k by k, padded on all sides."""
    half = row.shape[3] // 2
    point = torch.zeros_like(square)
    point[:, :, 1, 1] = 1
    frame = (half - 1,) * 4
    padded_row, padded_column = F.pad(row, (0, 0, half, half)), F.pad(column, (half, half))
    return torch.cat([F.pad(point, frame), F.pad(square, frame), padded_row, padded_column])


@exercises.add(
    cases=_kernel_cases,
    hints=(
        "Begin with zeros (4 g, 1, k, k); each branch fills the part of the kernel that it reads.",
        "The middle is at k // 2. Passing a pixel on is a kernel with a single one in the middle.",
    ),
)
def my_merged_kernel(square, row, column):
    return _merged(square, row, column)


@my_merged_kernel.mistakes(
    zero_identity="The identity is a kernel too: one in the middle, zero elsewhere. Yours lets nothing pass.",
    identity_of_ones="Your first kernels are full of ones: that sums the neighbourhood. Which kernel passes a pixel on?",
    kernels_turned="Row and column are exchanged: (1, k) is one row of the k by k kernel, the middle one.",
    in_the_corner="Your small kernels stand in the corner. All branches keep the size, so their middles must meet.",
    bands_spread="Your long kernels are repeated over the whole square; each is one row, or one column, in the middle.",
    no_square="The square kernels are missing.",
    another_order="The branches are in another order: identity, square, row, column.",
    square_in_the_corner="The 3 by 3 kernel stands in the corner; its middle must meet the middle of the k by k kernel.",
    bands_at_the_edge="Your long kernels lie along the edge: the row is the middle row, the column the middle column.",
    turned_round="Your kernels are turned round.",
    alternating="The channels of a branch are neighbours: all identities first, then all squares.",
)
def _(square, row, column, *, wrong):
    g, k = len(square), row.shape[3]
    merged = _merged(square, row, column)
    if wrong.bands_spread:
        merged = torch.cat([merged[: 2 * g], row.expand(-1, -1, k, -1), column.expand(-1, -1, -1, k)])
    if wrong.kernels_turned:
        merged = torch.cat([merged[: 2 * g], merged[2 * g :].mT])
    if wrong.in_the_corner:
        point = torch.zeros_like(square)
        point[:, :, 0, 0] = 1
        small = [F.pad(w, (0, k - w.shape[3], 0, k - w.shape[2])) for w in (point, square, row, column)]
        merged = torch.cat(small)
    if wrong.zero_identity or wrong.identity_of_ones:
        merged = torch.cat([torch.full_like(merged[:g], float(wrong.identity_of_ones)), merged[g:]])
    if wrong.square_in_the_corner:
        merged = torch.cat([merged[:g], F.pad(square, (0, k - 3, 0, k - 3)), merged[2 * g :]])
    if wrong.bands_at_the_edge:
        edge = F.pad(row, (0, 0, 0, k - 1)), F.pad(column, (0, k - 1))
        merged = torch.cat([merged[: 2 * g], *edge])
    if wrong.turned_round:
        merged = merged.flip(2, 3)
    if wrong.alternating:
        merged = merged.unflatten(0, (4, g)).transpose(0, 1).flatten(0, 1)
    if wrong.no_square:
        merged = torch.cat([merged[:g], 0 * merged[g : 2 * g], merged[2 * g :]])
    return merged.roll(-g, 0) if wrong.another_order else merged


# ------------------------------------------------------------------------- a kernel for every pixel


def _fields():
    yield case("one pixel", normal(1, 1, 1, 1), normal(1, 1, 1, 1, seed=1), 1)
    yield case("two pixels, one channel", normal(1, 1, 1, 2), normal(1, 1, 1, 2, seed=1), 1)
    yield case("rows and columns differ", normal(1, 1, 3, 2), normal(1, 1, 3, 2, seed=1), 1)
    yield case("two channels share a kernel", normal(1, 2, 2, 2), normal(1, 2, 2, 2, seed=1), 1)
    yield case("channel m uses kernel m modulo g", normal(2, 6, 3, 4), normal(2, 6, 3, 4, seed=1), 3)


@exercises.add(
    cases=_fields,
    rules=[without("autograd")],
    hints=(
        "y is linear in each weight: what multiplies weight[b, g, q, i, j] in the forward pass, and in which channels?",
        "Tap q reads the pixel at (i + q // 3 - 1, j + q % 3 - 1): F.pad(x, (1, 1, 1, 1)) and nine shifted pieces.",
    ),
)
def my_aggregation_backward(dy, x, groups):
    weight = torch.zeros(len(x), groups, 9, *x.shape[2:], dtype=x.dtype)
    return torch.func.vjp(lambda w: conv.small_kernel_aggregation(x, w), weight)[1](dy)[0]


@my_aggregation_backward.mistakes(
    divided="Your neighbouring channels share a kernel: that is m divided by (c / g). The text asks for m modulo g.",
    taps_exchanged="Taps go row by row. In yours rows and columns of the kernel are exchanged.",
    taps_flipped="Your taps run backwards: tap 0 reads the neighbour above and to the left.",
    mean_of_channels="The gradients of the channels that share a kernel are added up, not averaged.",
    moved_dy="You moved dy instead of x: the weight belongs to the pixel whose output is computed.",
    wrapped="Outside the image are zeros; yours goes round to the other side.",
    first_only="Only one of the channels that share a kernel counts.",
    repeats_the_border="Outside the image are zeros, not copies of its border.",
)
def _(dy, x, groups, *, wrong):
    order = range(9)
    if wrong.taps_exchanged:
        order = [3 * (q % 3) + q // 3 for q in order]
    if wrong.taps_flipped:
        order = [8 - q for q in order]

    def shifted(z, q):
        if wrong.wrapped:
            return z.roll((1 - q // 3, 1 - q % 3), (2, 3))
        if wrong.repeats_the_border:
            z = F.pad(z, (1, 1, 1, 1), mode="replicate")
            return z[:, :, q // 3 : q // 3 + z.shape[2] - 2, q % 3 : q % 3 + z.shape[3] - 2]
        return F.pad(z, (1, 1, 1, 1))[:, :, q // 3 : q // 3 + z.shape[2], q % 3 : q % 3 + z.shape[3]]

    products = torch.stack([shifted(dy, q) * x if wrong.moved_dy else dy * shifted(x, q) for q in order], 2)
    if wrong.divided:
        shares = products.unflatten(1, (groups, -1))
        return shares.mean(2) if wrong.mean_of_channels else shares.sum(2)
    shares = products.unflatten(1, (-1, groups))
    if wrong.first_only:
        return shares[:, 0]
    return shares.mean(1) if wrong.mean_of_channels else shares.sum(1)


# --------------------------------------------------------------------------------- two layers in tiles


def _towers():
    def given(c, i, j, rows):
        return normal(1, c, i, j), normal(4 * c, c, 3, 3, seed=1), normal(c, 4 * c, 3, 3, seed=2), rows

    yield case("one tile", *given(1, 2, 2, 2))
    yield case("two tiles of one row", *given(1, 2, 3, 1))
    yield case("a last tile with fewer rows", *given(1, 5, 3, 2))
    yield case("channels", *given(2, 6, 4, 2))
    yield case("tiles taller than the halo", *given(2, 9, 4, 4))
    yield case("many rows: never all of them at once", *given(2, 48, 6, 4))
    yield case("a wide image: a few rows of h at a time", *given(1, 20, 40, 8))


@exercises.add(
    cases=_towers,
    rules=[
        no_tensor_above(
            lambda x, first, second, rows: max(
                len(x) * x.shape[1] * (x.shape[2] + 4) * (x.shape[3] + 4),
                len(x) * len(first) * (rows + 4) * (x.shape[3] + 2),
            ),
            "cut x into tiles of rows before you convolve",
        )
    ],
    hints=(
        "For its own rows a tile needs one more row of h above and below, and for these two more rows of x.",
        "Rows of h outside the image are zeros, not convolutions of zeros with the image: cut, or overwrite them.",
    ),
)
def my_tower_in_tiles(x, first, second, rows):
    return F.conv2d(F.relu(F.conv2d(x, first, padding=1)), second, padding=1)


@my_tower_in_tiles.mistakes(
    no_halo="Your tiles see zeros at their upper and lower edge. Their halo belongs to the neighbouring tiles.",
    halo_of_one="Your halo has one row; two convolutions of 3 rows see two rows further.",
    above_only="Above your tiles see their neighbours, below they see zeros.",
    below_only="Below your tiles see their neighbours, above they see zeros.",
    padded_early="At the border of the image h is zero; yours is the convolution of the padded image there.",
    no_relu="The ReLU between the two convolutions is missing.",
    relu_last="There is no ReLU after the second convolution.",
    last_tile_lost="The last tile may have fewer rows than the others. You left it out.",
)
def _(x, first, second, rows, *, wrong):
    act = (lambda h: h) if wrong.no_relu else F.relu
    height = x.shape[2]
    above = 0 if wrong.no_halo or wrong.below_only else 1 if wrong.halo_of_one else 2
    below = 0 if wrong.no_halo or wrong.above_only else 1 if wrong.halo_of_one else 2
    tiles = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        if wrong.last_tile_lost and top + rows > height:
            break
        if wrong.padded_early:
            padded = F.pad(x, (1, 1, 2, 2))[:, :, top : bottom + 4]
            tiles.append(F.conv2d(F.pad(act(F.conv2d(padded, first)), (1, 1, 0, 0)), second))
            continue
        start, stop = max(top - above, 0), min(bottom + below, height)
        h = act(F.conv2d(x[:, :, start:stop], first, padding=1))
        y = F.conv2d(h, second, padding=1)
        tiles.append(y[:, :, top - start : bottom - start])
    y = torch.cat(tiles, 2) if tiles else x[:, :, :0]
    return F.relu(y) if wrong.relu_last else y


# ------------------------------------------------------------------------------------------- digits


def _digits():
    yield case("one kernel", normal(1, 3, 3), normal(1, 1, 2, 2))
    yield case("two kernels", normal(1, 4, 3), normal(2, 1, 2, 2))
    yield case("several images", normal(3, 5, 5), normal(4, 1, 3, 3))


@exercises.add(
    cases=_digits,
    hints=(
        "x[:, None] gives the images the axis of channels that a convolution wants.",
        "After the ReLU: the mean over rows and columns, one number a kernel.",
    ),
)
def my_features(x, weight):
    return F.relu(F.conv2d(x[:, None], weight)).mean((2, 3))


@my_features.mistakes(
    no_relu="The ReLU is missing. (Then all features are linear, and a mean of the image could do the same.)",
    mean_first="The ReLU comes before the mean, pixel by pixel.",
    summed="The mean over the places is asked, not the sum.",
    largest="The mean over the places is asked, not the largest.",
    one_axis="The mean runs over rows and columns.",
    padded="No padding: the kernel lies in the image as a whole.",
    in_steps="The stride is 1: the kernel visits every place.",
)
def _(x, weight, *, wrong):
    k = weight.shape[2]
    y = F.conv2d(x[:, None], weight, padding=k // 2 * wrong.padded, stride=k if wrong.in_steps else 1)
    if wrong.mean_first:
        return F.relu(y.mean((2, 3)))
    y = y if wrong.no_relu else F.relu(y)
    if wrong.summed:
        return y.sum((2, 3))
    if wrong.one_axis:
        return y.mean(3).amax(2)
    return y.amax((2, 3)) if wrong.largest else y.mean((2, 3))
