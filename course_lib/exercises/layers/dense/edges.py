"""Exercises 1, 2, 4, 5 and 6: a layer as a list of edges, and how long what it makes is."""

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import at_most_calls, case, normal, without
from course_lib.exercises.layers.dense._chapter import exercises

# ------------------------------------------------------------------- 1. a convolution as a list of edges

GEOMETRIES = [
    case("two places, one weight", 2, 1),
    case("three places, two weights", 3, 2),
    case("stride 2", 5, 2, 2),
    case("padding 1: edges that would read outside do not exist", 2, 3, 1, 1),
    case("dilation 2", 4, 2, 1, 0, 2),
    case("places that no window reaches", 6, 2, 4),
    case("more padding than kernel", 2, 2, 1, 2),
    case("all together", 9, 3, 2, 3, 2),
    case("all together, other numbers", 10, 4, 3, 2, 1),
]


def _listed(result):
    """The edges in words: their order does not matter, and both lists can be read side by side."""
    form = isinstance(result, tuple | list) and len(result) == 3
    form = form and all(isinstance(leg, torch.Tensor) and leg.ndim == 1 for leg in result)
    if not form or len({len(leg) for leg in result}) > 1 or any(leg.is_floating_point() for leg in result):
        raise ValueError("three integer tensors of one axis and one length are asked: source, target, weight")
    edges = sorted(zip(*(leg.tolist() for leg in result), strict=True))
    return ", ".join(f"{source} to {target} by w{weight}" for source, target, weight in edges)


@exercises.add(
    cases=GEOMETRIES,
    see=_listed,
    hints=(
        "For each output j and each weight i there is at most one edge: compute its input, and keep it if that exists.",
        "torch.meshgrid (or two loops) gives all pairs j, i; exists = (source >= 0) & (source < n) chooses among them.",
    ),
)
def my_edges(n, kernel, stride=1, padding=0, dilation=1):
    # Each place of the input by itself: behind a kernel 1, 2, ..., k the result says which weight was used.
    numbered = torch.arange(1.0, kernel + 1).view(1, 1, -1)
    used = F.conv1d(torch.eye(n)[:, None], numbered, stride=stride, padding=padding, dilation=dilation)
    source, target = used[:, 0].nonzero(as_tuple=True)
    return source, target, used[source, 0, target].round().long() - 1


@my_edges.mistakes(
    outside_kept="Some of your edges read places outside of the input: these do not exist.",
    clamped="An edge that would read outside is left out; yours reads the place at the border instead.",
    padding_added="The sign of the padding: the first window begins in front of the input.",
    no_padding="The padding is missing in the source: the first window begins in front of the input.",
    stride_and_dilation="The stride belongs to the output j, the dilation to the weight i.",
    no_dilation="The dilation is missing in the source.",
    no_stride="The stride is missing in the source.",
    source_and_target="The order is source, target, weight.",
    weight_is_edge="Every edge of yours has a weight of its own: that is a layer without sharing. A convolution has k weights.",
    kernel_turned="The kernel is laid on as it is: weight 0 reads the first place of the window.",
    one_output_short="An output is missing: count them for a kernel of 1.",
    one_output_more="There is one output too many: its window would stick out of the padding.",
    any_output="You keep every output that sees something; only windows that lie wholly in the padded input count.",
    inside_only="You left out windows that stick out of the input: of them only the edges that read outside do not exist.",
    border_lost="Place 0 is a place, too: edges that read it exist.",
    end_kept="The places are 0, ..., n - 1: none has the number n.",
    from_one="Everything is counted from 0; yours begin at 1.",
    count_padded_once="Padding stands on both sides: 2 padding in the number of outputs.",
    count_undilated="The dilation is missing in the number of outputs.",
    weight_by_distance="The weight is the place i in the kernel, not how far that lies from its start.",
)
def _(n, kernel, stride=1, padding=0, dilation=1, *, wrong):
    spread = 1 if wrong.count_undilated else dilation
    sides = 1 if wrong.count_padded_once else 2
    outputs = (n + sides * padding - spread * (kernel - 1) - 1) // stride + 1
    outputs += wrong.one_output_more - wrong.one_output_short
    outputs = n if wrong.any_output else outputs
    target, weight = torch.cartesian_prod(torch.arange(outputs), torch.arange(kernel)).T
    per_output, per_weight = (dilation, stride) if wrong.stride_and_dilation else (stride, dilation)
    per_output, per_weight = 1 if wrong.no_stride else per_output, 1 if wrong.no_dilation else per_weight
    start = padding if wrong.padding_added else 0 if wrong.no_padding else -padding
    source = per_output * target + per_weight * weight + start
    exists = (source >= int(wrong.border_lost)) & (source < n + int(wrong.end_kept))
    if wrong.clamped:
        source = source.clamp(0, n - 1)
    if wrong.inside_only:
        begin = per_output * target + start
        exists = (begin >= 0) & (begin + dilation * (kernel - 1) < n)
    if not (wrong.outside_kept or wrong.clamped):
        source, target, weight = source[exists], target[exists], weight[exists]
    if wrong.weight_is_edge:
        weight = torch.arange(len(source))
    if wrong.kernel_turned:
        weight = kernel - 1 - weight
    if wrong.weight_by_distance:
        weight = dilation * weight
    if wrong.from_one:
        source, target, weight = source + 1, target + 1, weight + 1
    return (target, source, weight) if wrong.source_and_target else (source, target, weight)


# --------------------------------------------------------------------- 2. which inputs give this output?


@exercises.add(
    cases=[
        case("one output, kernel 1", 1, 1, 1, 0, 1),
        case("one output, kernel 3", 1, 3, 1, 0, 1),
        case("stride 2: two lengths", 2, 1, 2, 0, 1),
        case("padding on both sides", 4, 3, 1, 1, 1),
        case("dilation 2", 3, 3, 1, 0, 2),
        case("lengths below 1 do not count", 1, 3, 4, 2, 1),
        case("no length at all", 1, 1, 1, 2, 1),
        case("all together", 4, 3, 3, 2, 2),
        case("all together, other numbers", 7, 5, 2, 1, 3),
        case("a kernel that does not fit makes no output", 1, 5, 3, 0, 1),
        case("long lengths", 64, 3, 2, 1, 1),
    ],
    hints=(
        "f(n) = m says that n + c lies in [(m - 1) stride, m stride), with c = 2 padding - dilation (k - 1) - 1.",
        "These are `stride` lengths in a row, from (m - 1) stride - c on; drop those below 1.",
    ),
)
def my_inputs(m, kernel, stride, padding, dilation):
    def windows(n):  # laid on one after the other
        starts = range(0, n + 2 * padding, stride)
        return sum(start + dilation * (kernel - 1) < n + 2 * padding for start in starts)

    return [n for n in range(1, 2 + m * stride + dilation * kernel) if windows(n) == m]


@my_inputs.mistakes(
    one_only="With a stride of s, s lengths give the same output: the floor forgets the rest.",
    below_one="A length is at least 1.",
    last_missing="The largest length is missing: s places in a row give the same.",
    one_more_at_end="The largest of yours already gives one output more.",
    padding_once="The padding stands on both sides.",
    padding_sign="The sign of the padding: with it a shorter input is enough.",
    no_padding="The padding is missing.",
    no_dilation="The dilation is missing: a kernel of k weights spans dilation (k - 1) + 1 places.",
    dilated_kernel="k weights have k - 1 gaps between them: a dilated kernel spans dilation (k - 1) + 1 places, not dilation times k.",
    one_window_more="The first window needs no stride: m windows are m - 1 strides apart.",
    offset_forgotten="Off by one: kernel 1, stride 1, no padding must give [m].",
    forwards="This is f(m), the way forwards. Asked is which n give m.",
    largest_first="The smallest comes first.",
    no_stride="The stride is missing.",
    centred="All n with f(n) = m, please: yours begin in the middle of them.",
    rounds_to_zero="A kernel that does not fit makes no output: int() rounds towards 0, a floor goes below it.",
    search_ends="Your lengths end below those that are asked for: where must a search stop?",
    ends_only="All lengths, please, not only the smallest and the largest.",
    below_first="Your lengths lie below the smallest that fits: go up from it, not down.",
)
def _(m, kernel, stride, padding, dilation, *, wrong):
    if wrong.forwards:
        return [(m + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1]
    dilation = 1 if wrong.no_dilation else dilation
    stride = 1 if wrong.no_stride else stride
    span = dilation * kernel if wrong.dilated_kernel else dilation * (kernel - 1) + 1
    padded = 0 if wrong.no_padding else padding if wrong.padding_once else 2 * padding
    padded = -padded if wrong.padding_sign else padded
    first = (m if wrong.one_window_more else m - 1) * stride + span - padded - wrong.offset_forgotten
    last = first + stride - 1 - wrong.last_missing + wrong.one_more_at_end
    last = first if wrong.one_only else last
    first = (first + last) // 2 if wrong.centred else first
    if wrong.rounds_to_zero:
        return [n for n in range(1, last + 1) if int((n + padded - span) / stride) + 1 == m]
    if wrong.below_first:
        return [n for n in range(first - stride + 1, first + 1) if n >= 1]
    if wrong.ends_only:
        return [max(1, first), last]
    last = min(last, 99) if wrong.search_ends else last
    found = list(range(first if wrong.below_one or wrong.one_only else max(1, first), last + 1))
    return found[::-1] if wrong.largest_first else found


# -------------------------------------------------------------------------- 4. how far does an output see?


@exercises.add(
    cases=[
        case("no layer", []),
        case("one layer", [(3, 1, 1)]),
        case("one layer of stride 2", [(3, 2, 1)]),
        case("one layer of dilation 2", [(3, 1, 2)]),
        case("two layers", [(3, 1, 1), (2, 1, 1)]),
        case("stride 2, then a kernel", [(1, 2, 1), (3, 1, 1)]),
        case("three strides", [(2, 3, 1), (2, 2, 1), (2, 2, 1)]),
        case("dilation and stride", [(3, 2, 2), (4, 3, 1), (2, 1, 3)]),
        case("a kernel of one", [(1, 3, 5), (5, 2, 2)]),
    ],
    hints=(
        "One place in front of layer i is how many places of the input? That is the step so far, the product of the strides before it.",
        "From the input on: reach += dilation (kernel - 1) step, and only then step *= stride; both begin at 1.",
    ),
)
def my_window(layers):
    # From the last layer back: the first and last place that output 0 sees, and the first that output 1 sees.
    first, last, other = 0, 0, 1
    for kernel, stride, dilation in reversed(layers):
        first, last, other = stride * first, stride * last + dilation * (kernel - 1), stride * other
    return other - first, last - first + 1


@my_window.mistakes(
    steps_ignored="Behind a stride, one place is several places of the input: a later kernel spans more of it.",
    own_stride="A layer's own stride comes behind its window: it moves the next layers, not the reach of its own kernel.",
    no_dilation="The dilation is missing: k weights span dilation (k - 1) + 1 places.",
    kernel_for_gaps="k weights have k - 1 gaps between them; you counted k.",
    gap_too_few="A dilated kernel spans dilation (k - 1) + 1 places, not dilation times k.",
    starts_at_zero="The first place counts, too: without any layer an output sees one place.",
    product_of_kernels="Windows do not multiply: each layer adds what its kernel spans.",
    product_of_spans="Windows do not multiply: each layer adds what its kernel spans.",
    dilations_multiply="The dilation of a layer spreads its own kernel only; of the layers before it, the strides count.",
    places_read="The reach goes from the first place to the last; the gaps in between count, too.",
    reversed_layers="You go through the layers in the wrong order: the first one sees the input.",
    swapped="The order is step, reach.",
    strides_added="Strides multiply: one place behind two layers of stride 2 is four places of the input.",
    last_stride_only="All strides before a layer count, not only that of the one in front.",
    dilation_in_step="A dilation widens the window and does not move it: the step has the strides alone.",
    last_layer_only="You look at the last layer only.",
    first_layer_only="You look at the first layer only.",
    step_of_last="The step is that of the last layer only: all strides count.",
    step_one="The step is not always 1: strides move the window.",
)
def _(layers, *, wrong):
    if wrong.product_of_kernels or wrong.product_of_spans:
        reach = 1
        for kernel, _, dilation in layers:
            reach *= kernel if wrong.product_of_kernels else dilation * (kernel - 1) + 1
    if wrong.places_read:
        read, apart = {0}, 1
        for kernel, stride, dilation in layers:
            read = {place + i * dilation * apart for place in read for i in range(kernel)}
            apart *= stride
    layers = layers[::-1] if wrong.reversed_layers else layers
    layers = layers[-1:] if wrong.last_layer_only else layers[:1] if wrong.first_layer_only else layers
    step, before, total = 1, 1, 0 if wrong.starts_at_zero else 1
    spread = 1
    for kernel, stride, dilation in layers:
        spread *= dilation
        per = 1 if wrong.steps_ignored else before if wrong.last_stride_only else step
        per = per * stride if wrong.own_stride else per
        gaps = (1 if wrong.no_dilation else dilation) * (kernel if wrong.kernel_for_gaps else kernel - 1)
        gaps = dilation * kernel - 1 if wrong.gap_too_few else gaps
        gaps = spread * (kernel - 1) if wrong.dilations_multiply else gaps
        total += gaps * per
        before = stride
        step = step + stride - 1 if wrong.strides_added else step * stride
        step = step * dilation if wrong.dilation_in_step else step
    step = 1 if wrong.step_one else before if wrong.step_of_last else step
    total = reach if wrong.product_of_kernels or wrong.product_of_spans else total
    total = len(read) if wrong.places_read else total
    return (total, step) if wrong.swapped else (step, total)


# ------------------------------------------------------------------------------------- 5. find the bugs


def _spans():
    def given(rows, source, target, weight, sizes):
        inputs, outputs, weights = sizes
        legs = (torch.tensor(leg) for leg in (source, target, weight))
        return normal(rows, outputs), normal(rows, inputs, seed=1), normal(weights), *legs

    def drawn(rows, edges, sizes):
        generator = torch.Generator().manual_seed(edges)
        legs = (torch.randint(n, (edges,), generator=generator).tolist() for n in sizes)
        return given(rows, *legs, sizes)

    yield case("two edges with a weight each", *given(1, [0, 1], [0, 1], [0, 1], (2, 2, 2)))
    yield case("two edges share a weight", *given(1, [0, 1], [0, 1], [0, 0], (2, 2, 1)))
    yield case("two edges read one input", *given(1, [0, 0], [0, 1], [0, 1], (1, 2, 2)))
    yield case("two rows", *given(2, [0, 1], [0, 1], [0, 1], (2, 2, 2)))
    yield case("a convolution", *given(3, [0, 1, 1, 2], [0, 0, 1, 1], [0, 1, 0, 1], (3, 2, 2)))
    yield case("drawn at random; an input and a weight may be without edges", *drawn(4, 7, (5, 3, 4)))
    yield case("many edges", *drawn(2, 60, (7, 4, 5)))


@exercises.add(
    cases=_spans,
    rules=[without("autograd"), at_most_calls(40, "no loop over edges or rows")],
    hints=(
        "Try it by hand: two edges share a weight, and the batch has two rows. What must be added up, and what does each line do?",
        "An assignment to dw[weight] keeps one of the edges that share a weight; index_add adds them. And L is one number for all rows.",
    ),
)
def my_span_backward(g, x, w, source, target, weight):
    with torch.enable_grad():
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        edges = x[:, source] * w[weight]
        y = edges @ F.one_hot(target, g.shape[1]).to(edges)
        return torch.autograd.grad(y, (x, w), g.detach())


@my_span_backward.mistakes(
    ties_lost="Where edges share a weight, dw still keeps one of them: an assignment with an index that occurs twice does not add.",
    mean_over_batch="All rows use the same weights and L is one number: what they say about w is added up, not averaged.",
    readers_lost="Where edges read the same input, dx keeps one of them. It was right as it stood.",
    mean_over_ties="What the edges of a weight say is added up, not averaged.",
    mean_over_readers="What the edges of an input say is added up, not averaged.",
    first_row="dw takes the first row of the batch only.",
    no_weight_in_dx="The weight is missing in dx.",
    no_input_in_dw="The input is missing in dw.",
    swapped="The order is dx, dw.",
    batch_left="dw has no axis for the batch: all rows share the weights.",
    not_assigned="index_add returns a new tensor: yours is thrown away, and dw stays zero.",
    edges_summed="Sum over the rows, and keep the edges apart: each speaks of its own weight.",
    dx_over_batch="Each row of x has its own gradient: nothing is divided by the rows in dx.",
)
def _(g, x, w, source, target, weight, *, wrong):
    pulled = g[:, target]
    to_x = pulled if wrong.no_weight_in_dx else pulled * w[weight]
    dx = torch.zeros_like(x).index_add(1, source, to_x)
    if wrong.readers_lost:
        dx = torch.zeros_like(x)
        dx[:, source] = to_x
    if wrong.mean_over_readers:
        dx = dx / torch.bincount(source, minlength=x.shape[1]).clamp(min=1)
    dx = dx / len(x) if wrong.dx_over_batch else dx
    each = pulled if wrong.no_input_in_dw else pulled * x[:, source]
    if wrong.batch_left:
        return dx, torch.zeros(len(x), len(w)).index_add(1, weight, each)
    to_w = each[0] if wrong.first_row else each.mean(0) if wrong.mean_over_batch else each.sum(0)
    to_w = to_w.sum().expand(len(weight)) if wrong.edges_summed else to_w
    dw = torch.zeros_like(w)
    if wrong.not_assigned:
        return dx, dw
    if wrong.ties_lost:
        dw[weight] = to_w
    else:
        dw = dw.index_add(0, weight, to_w)
    if wrong.mean_over_ties:
        dw = dw / torch.bincount(weight, minlength=len(w)).clamp(min=1)
    return (dw, dx) if wrong.swapped else (dx, dw)


# ------------------------------------------------------------------------------------- 6. false friends


@exercises.accept(
    hints=(
        "The length goes up by one every `stride` places. For two kernels that differ by one place: at how many lengths do they disagree?",
        "Take the stride larger than ten, and choose the kernels so that they disagree at 19 and 30, and not in between.",
    )
)
def my_false_friends(result):
    if not (isinstance(result, tuple | list) and len(result) == 2 and all(len(c) == 4 for c in result)):
        return "returns two tuples of four integers: (kernel, stride, padding, dilation)"
    lengths = []
    for kernel, stride, padding, dilation in result:
        if not all(isinstance(n, int) for n in (kernel, stride, padding, dilation)):
            return "wants whole numbers"
        if min(kernel, stride, dilation) < 1 or padding < 0:
            return "wants kernel, stride and dilation of at least 1, and no negative padding"
        if 20 + 2 * padding < dilation * (kernel - 1) + 1:
            return f"has a kernel that does not fit on 20 places: {(kernel, stride, padding, dilation)}"
        lengths.append([(n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in range(20, 61)])
    differ = [n for n, a, b in zip(range(20, 61), *lengths, strict=True) if a != b]
    if not differ:
        return "are true friends: they agree on all lengths from 20 to 60"
    if differ[0] < 30:
        a, b = (one[differ[0] - 20] for one in lengths)
        return f"are found out by the test: of {differ[0]} places they make {a} and {b}"
    return ""
