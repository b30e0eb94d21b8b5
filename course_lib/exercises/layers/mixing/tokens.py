"""Counting, the matrices of mixers, rafts and shifts turned back, a block to mend."""

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal, without
from course_lib.exercises.layers.mixing._chapter import exercises
from course_lib.layers import mixing


@exercises.add(
    cases=[
        case("a square, one channel a raft: no wider than a row", 4, 4, 1, 1),
        case("a square, two channels a raft", 8, 8, 2, 2),
        case("rows and columns differ", 3, 5, 2, 3),
        case("rafts so wide that nothing is saved", 2, 2, 4, 1),
        case("a real image", 56, 56, 3, 2),
    ],
    hints=(
        "A matrix of n numbers in and e n out has e n^2 entries, the one that leads back as many.",
        "Along a vertical raft run r h numbers, along a horizontal one r w.",
    ),
)
def my_saving(h, w, r, e):
    raft = sum(2 * e * (r * n) ** 2 for n in (h, w))
    return 2 * e * (h * w) ** 2 / raft


@my_saving.mistakes(
    without_rafts="Where is r? A raft carries r channels of each of its pixels.",
    r_not_squared="The matrices are square in r h: r counts twice.",
    one_step="There are two steps, one vertical, one horizontal.",
    upside_down="The full token MLP divided by the rafts: above one where something is saved.",
    one_side="The full token MLP mixes h w tokens, not h + w.",
    pixels_not_squared="A matrix from h w to e h w numbers has e (h w)^2 entries.",
    with_expansion="e stands in both counts and cancels.",
    horizontal_like_vertical="The two steps differ: r h numbers in one, r w in the other.",
    not_squared="A matrix from n to e n numbers has e n^2 entries: the numbers stand squared in both counts.",
    product="The entries of the two raft steps are added up, not multiplied.",
    sides_added="Each raft step has matrices of its own: (r h)^2 and (r w)^2, not (r (h + w))^2.",
    cut="A quotient, with what stands behind the point.",
    difference="One count divided by the other is asked, not what is left.",
    for_each_line="All columns share the matrices of the vertical step, and all rows those of the horizontal one.",
)
def _(h, w, r, e, *, wrong):
    if wrong.without_rafts:
        r = 1
    if wrong.not_squared:
        return h * w / (r * h + r * w)
    if wrong.product:
        return (h * w) ** 2 / (r * h * r * w)
    if wrong.sides_added:
        return (h * w) ** 2 / (r * (h + w)) ** 2
    if wrong.difference:
        return 2 * e * ((h * w) ** 2 - r * r * (h * h + w * w))
    if wrong.for_each_line:
        return (h * w) ** 2 / (r * r * (h * h * w + w * w * h))
    if wrong.cut:
        return (h * w) ** 2 // (r * r * (h * h + w * w))
    power = 1 if wrong.r_not_squared else 2
    raft = r**power * (h * h + (h * h if wrong.horizontal_like_vertical else 0 if wrong.one_step else w * w))
    full = (h + w) ** 2 if wrong.one_side else h * w if wrong.pixels_not_squared else (h * w) ** 2
    ratio = full / raft * (e if wrong.with_expansion else 1)
    return 1 / ratio if wrong.upside_down else ratio


# ------------------------------------------------------------------------------ a mixer as a matrix


def _matrices():
    yield case("two tokens, one channel", normal(1, 2), normal(2, 1, seed=1), 1)
    yield case("two tokens, two channels", normal(1, 2), normal(2, 1, seed=1), 2)
    yield case("three tokens, two channels", normal(2, 3), normal(3, 2, seed=1), 2)
    yield case("a hidden layer wider than the tokens", normal(5, 3), normal(3, 5, seed=1), 4)


@exercises.add(
    cases=_matrices,
    hints=(
        "Entry (s c + k, s' c + k') says how much channel k' of token s' gives to channel k of token s: zero unless k = k'.",
        "torch.kron(a, b) puts a copy of b at each entry of a: which of the two is the identity?",
    ),
)
def my_token_matrix(w1, w2, channels):
    tokens = w1.shape[1]
    basis = torch.eye(tokens * channels).unflatten(1, (tokens, channels))
    return torch.einsum("sh,ht,ntc->nsc", w2, w1, basis).flatten(1).mT


@my_token_matrix.mistakes(
    other_layout="You laid the numbers out channel by channel; the tokens come first: token s, channel k at s c + k.",
    transposed="Your matrix is transposed: row s says what token s receives.",
    ones_factor="Every channel is mixed for itself: an identity, not a matrix of ones.",
    first_only="w1 comes first, then w2: the matrix is that of both.",
    wrong_order="The matrices act from the left: w2 w1, not w1 w2.",
    one_channel="This is the matrix of one channel; all channels have it.",
    activated="The activation is left out: the map is linear.",
    skip="There is no skip: nothing is added to w2 w1.",
)
def _(w1, w2, channels, *, wrong):
    m = w1.mT @ w1 if wrong.first_only else (w1.mT @ w2.mT if wrong.transposed else w2 @ w1)
    if wrong.wrong_order:
        m = w1 @ w2
    eye = torch.eye(channels)
    if wrong.activated:
        m = w2 @ w1.relu()
    if wrong.skip:
        m = m + torch.eye(len(m))
    if wrong.one_channel:
        return m
    if wrong.ones_factor:
        eye = torch.ones_like(eye)
    return torch.kron(eye, m) if wrong.other_layout else torch.kron(m, eye)


def _channel_matrices():
    yield case("two channels, one token", normal(1, 2), normal(2, 1, seed=1), 1)
    yield case("two channels, two tokens", normal(1, 2), normal(2, 1, seed=1), 2)
    yield case("three channels, two tokens", normal(2, 3), normal(3, 2, seed=1), 2)
    yield case("a hidden layer wider than the channels", normal(5, 3), normal(3, 5, seed=1), 4)


@exercises.add(
    cases=_channel_matrices,
    hints=(
        "Now entry (s c + k, s' c + k') is zero unless s = s': the matrix consists of equal blocks on its diagonal.",
        "torch.block_diag, or torch.kron with the identity on the left.",
    ),
)
def my_channel_matrix(w1, w2, tokens):
    channels = w1.shape[1]
    basis = torch.eye(tokens * channels).unflatten(1, (tokens, channels))
    return torch.einsum("kh,hc,ntc->ntk", w2, w1, basis).flatten(1).mT


@my_channel_matrix.mistakes(
    other_layout="You laid the numbers out channel by channel; the tokens come first: token s, channel k at s c + k.",
    transposed="Your matrix is transposed.",
    ones_factor="Every token is mixed for itself: an identity, not a matrix of ones.",
    wrong_order="The matrices act from the left: w2 w1, not w1 w2.",
    one_token="This is the matrix of one token; all tokens have it.",
    activated="The activation is left out: the map is linear.",
    skip="There is no skip: nothing is added to w2 w1.",
)
def _(w1, w2, tokens, *, wrong):
    m = w1.mT @ w2.mT if wrong.transposed else w1 @ w2 if wrong.wrong_order else w2 @ w1
    eye = torch.ones(tokens, tokens) if wrong.ones_factor else torch.eye(tokens)
    if wrong.activated:
        m = w2 @ w1.relu()
    if wrong.skip:
        m = m + torch.eye(len(m))
    if wrong.one_token:
        return m
    return torch.kron(m, eye) if wrong.other_layout else torch.kron(eye, m)


# ------------------------------------------------------------------------------- a raft, turned back


def _rafts():
    def given(label, b, h, w, r, o):
        tokens = normal(b, h * w, r * o)
        return case(label, mixing.raft_rearrange(tokens, grid=(h, w), raft=r, axis="vertical"), h, w, r)

    yield given("one column, one channel", 1, 2, 1, 1, 1)
    yield given("two columns", 1, 2, 2, 1, 1)
    yield given("two channels in one raft", 1, 2, 1, 2, 1)
    yield given("two rafts", 1, 2, 1, 1, 2)
    yield given("all sizes differ", 2, 3, 5, 2, 4)


@exercises.add(
    cases=_rafts,
    hints=(
        "Name the axes of y one by one: (b, o, w, r, h). In which order do they stand in x?",
        "reshape, permute, reshape: x is (b, h, w, r, o) before its last reshape.",
    ),
)
def my_unraft(y, h, w, r):
    b, o = len(y), y.shape[1] // w
    x = torch.zeros(b, h, w, r, o, dtype=y.dtype)
    for k in range(o):
        for j in range(w):
            for place in range(r):
                for i in range(h):
                    x[:, i, j, place, k] = y[:, k * w + j, place * h + i]
    return x.flatten(3).flatten(1, 2)


@my_unraft.mistakes(
    reshape_alone="Reshaping alone moves no number: the axes have to change places, too.",
    rafts_inside="Channel c sits at place c // o in raft c % o; yours has place and raft exchanged.",
    rows_inside="Along a raft the places are slow and the rows fast: place h + i.",
    columns_outside="The rows of y are raft k in column j at k w + j: rafts slow, columns fast.",
    grid_turned="Tokens stand row by row: t = i w + j.",
    forward_again="This makes rafts once more; given are the rafts, and the tokens are asked.",
    sides_exchanged="A column has h rows, and there are w columns: h and w are exchanged in yours.",
)
def _(y, h, w, r, *, wrong):
    b, o = len(y), y.shape[1] // w
    if wrong.forward_again:
        tokens = y.reshape(b, h, w, r, o)
        return tokens.permute(0, 4, 2, 3, 1).reshape(b, h * w, r * o)
    if wrong.sides_exchanged:
        return y.reshape(b, o, h, r, w).permute(0, 2, 4, 3, 1).reshape(b, h * w, r * o)
    if wrong.reshape_alone:
        return y.reshape(b, h * w, r * o)
    rows = y.reshape(b, w, o, -1).transpose(1, 2) if wrong.columns_outside else y.reshape(b, o, w, -1)
    split = rows.unflatten(3, (h, r)).mT if wrong.rows_inside else rows.unflatten(3, (r, h))
    x = split.permute(0, 4, 2, 3, 1)  # b, h, w, r, o
    if wrong.grid_turned:
        x = x.transpose(1, 2)
    if wrong.rafts_inside:
        x = x.transpose(3, 4)
    return x.reshape(b, h * w, r * o)


# ------------------------------------------------------------------------------- a shift, turned back


def _shifts():
    yield case("nothing moves", normal(1, 1, 2, 2), torch.tensor([[0, 0]]))
    yield case("one column to the left", normal(1, 1, 1, 3), torch.tensor([[0, 1]]))
    yield case("one row down", normal(1, 1, 3, 2), torch.tensor([[-1, 0]]))
    yield case("channels with offsets of their own", normal(1, 2, 3, 4), torch.tensor([[1, 0], [0, -2]]))
    yield case("an offset larger than the image", normal(1, 2, 2, 3), torch.tensor([[5, 0], [0, 1]]))
    yield case("offsets a little larger", normal(1, 2, 4, 5), torch.tensor([[5, 0], [0, -7]]))
    yield case("a batch", normal(2, 3, 4, 3), torch.tensor([[1, -1], [-2, 2], [0, 3]]))


@exercises.add(
    cases=_shifts,
    rules=[without("autograd")],
    hints=(
        "y[i, j] was read from x[i + d1, j + d2]: so its gradient goes to that place.",
        "The way back is the same shift by the opposite offsets, again with zeros from outside.",
    ),
)
def my_shift_back(dy, offsets):
    return torch.func.vjp(lambda x: mixing.spiral_shift_naive(x, offsets), torch.zeros_like(dy))[1](dy)[0]


@my_shift_back.mistakes(
    same_direction="You shift once more in the same direction; the gradient goes back.",
    around_the_border="What leaves the image on one side comes back on the other in yours; it is lost.",
    swapped="The offsets are rows first, then columns.",
    first_for_all="Every channel has an offset of its own.",
    repeats_the_border="Outside the image are zeros, not copies of its border.",
    rows_only="The columns do not move in yours.",
    as_it_is="Nothing moves in yours.",
    columns_forward="Rows go back in yours, columns go forward.",
    from_behind="A place above or to the left of the image is outside: as an index, -1 would be the last one.",
)
def _(dy, offsets, *, wrong):
    if wrong.swapped:
        offsets = offsets.flip(1)
    if wrong.first_for_all:
        offsets = offsets[:1].expand_as(offsets)
    if wrong.rows_only:
        offsets = offsets * torch.tensor([1, 0])
    if wrong.as_it_is:
        offsets = 0 * offsets
    if wrong.columns_forward:
        offsets = offsets * torch.tensor([1, -1])
    if not wrong.same_direction:
        offsets = -offsets
    if wrong.from_behind:
        back = torch.zeros_like(dy)
        for c, (d1, d2) in enumerate((-offsets).tolist()):
            for i in range(max(-dy.shape[2] - d1, 0), min(dy.shape[2] - d1, dy.shape[2])):
                for j in range(max(-dy.shape[3] - d2, 0), min(dy.shape[3] - d2, dy.shape[3])):
                    back[:, c, i + d1, j + d2] += dy[:, c, i, j]
        return back
    if wrong.around_the_border:
        shifted = [dy[:, c].roll((-int(d1), -int(d2)), (1, 2)) for c, (d1, d2) in enumerate(offsets.tolist())]
        return torch.stack(shifted, 1)
    if wrong.repeats_the_border:
        rows, columns = dy.shape[-2:]
        i = (torch.arange(rows)[:, None] + offsets[:, 0, None, None]).clamp(0, rows - 1)
        j = (torch.arange(columns) + offsets[:, 1, None, None]).clamp(0, columns - 1)
        index = (i * columns + j).flatten(1)
        return dy.flatten(2).gather(2, index.expand(len(dy), -1, -1)).reshape(dy.shape)
    return mixing.spiral_shift_naive(dy, offsets)


# ------------------------------------------------------------------------------------ find the bugs


def _rms(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()


def _blocks():
    def given(label, b, c, i, j, h):
        return case(label, normal(b, c, i, j), normal(h, c, seed=1), normal(c, h, seed=2), _rms)

    yield given("one pixel", 1, 2, 1, 1, 1)
    yield given("two pixels: both at the border", 1, 2, 1, 2, 1)
    yield given("an image with an inside", 1, 1, 3, 3, 2)
    yield given("rows and columns differ, several channels", 2, 3, 4, 5, 6)


@exercises.add(
    cases=_blocks,
    hints=(
        "Count by hand the pixels that a corner of a 3 by 3 image has around it, itself included.",
        "Follow the stream: what enters the second half, and what is added to its result?",
        "Each half normalises what enters it, and adds its result to what entered it before the norm.",
    ),
)
def my_block(x, w1, w2, norm):
    z = norm(x)
    pooled = F.avg_pool2d(z, 3, stride=1, padding=1, count_include_pad=False) - z
    y = x + pooled
    return y + torch.einsum("ch,bhij->bcij", w2, F.gelu(torch.einsum("hc,bcij->bhij", w1, norm(y))))


@my_block.mistakes(
    counts_padding="At the border the mean is still over nine pixels, zeros included; it is over those that exist.",
    second_norm_missing="The second half does not normalise what enters it.",
    first_norm_missing="The first half does not normalise what enters it.",
    only_average="The pixel itself is not subtracted from the mean.",
    upside_down="The mean minus the pixel, not the pixel minus the mean.",
    parallel_halves="Both halves start from x; the second one starts from what the first one gives.",
    no_second_skip="There is no skip around the second half.",
    no_first_skip="There is no skip around the first half.",
    subtracts_the_stream="Subtracted is the normalised pixel, which is what was averaged, not x.",
    no_gelu="The GELU is missing.",
    relu="The activation is GELU.",
    tanh="The exact GELU is meant, not its approximation by tanh.",
    repeats_the_border="At the border the mean is over the pixels that exist; yours counts copies of border pixels.",
    skip_from_x="The second skip starts from y, what enters the second half, not from x.",
)
def _(x, w1, w2, norm, *, wrong):
    z = x if wrong.first_norm_missing else norm(x)
    mean = F.avg_pool2d(z, 3, stride=1, padding=1, count_include_pad=wrong.counts_padding)
    if wrong.repeats_the_border:
        mean = F.avg_pool2d(F.pad(z, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    pooled = mean if wrong.only_average else mean - (x if wrong.subtracts_the_stream else z)
    if wrong.upside_down:
        pooled = -pooled
    y = pooled if wrong.no_first_skip else x + pooled
    inside = x if wrong.parallel_halves else y
    inside = inside if wrong.second_norm_missing else norm(inside)
    act = torch.relu if wrong.relu else (lambda h: h) if wrong.no_gelu else F.gelu
    if wrong.tanh:
        act = torch.nn.GELU(approximate="tanh")
    out = torch.einsum("ch,bhij->bcij", w2, act(torch.einsum("hc,bcij->bhij", w1, inside)))
    return out if wrong.no_second_skip else (x if wrong.skip_from_x else y) + out
