"""Low rank, block tensor trains, ordered training, and two matrices that are easy for one structure only."""

import torch
from torch import einsum

from course_lib.classroom.answers import case, no_tensor_above, normal
from course_lib.exercises.layers.structured._chapter import exercises


@exercises.add(
    cases=[
        case("a square matrix", 4, 4),
        case("wide", 2, 6),
        case("tall", 6, 2),
        case("where both need equally many: not fewer", 6, 3),
        case("one row: no rank pays", 1, 5),
        case("two by two: no rank pays", 2, 2),
        case("a layer of a language model", 11008, 4096),
    ],
    hints=(
        "U has o r numbers, V has i r: together r (o + i), against o i.",
        "r must be smaller than o i / (o + i); where that is an integer, it is not smaller.",
    ),
)
def my_largest_rank(o, i):
    return max((r for r in range(min(o, i) + 1) if r * (o + i) < o * i), default=0)


@my_largest_rank.mistakes(
    equal_counts="At equal numbers nothing is saved: fewer means fewer.",
    one_factor="Both factors have to be stored.",
    full_rank="The rank can be as large as the smaller side, but then two factors hold more numbers than the matrix.",
    rounded="Round down: half a column cannot be had.",
    halved="The two sides differ: the break-even is o i / (o + i), not half the smaller one.",
    not_rounded="A rank is a whole number: this is where both need equally many.",
    at_least_one="Where not even one column saves anything, the answer is 0.",
)
def _(o, i, *, wrong):
    if wrong.full_rank:
        return min(o, i)
    if wrong.halved:
        return min(o, i) // 2
    if wrong.one_factor:
        return (o * i - 1) // max(o, i)
    if wrong.not_rounded:
        return o * i / (o + i)
    if wrong.at_least_one:
        return max(1, (o * i - 1) // (o + i))
    if wrong.rounded:
        return round(o * i / (o + i))
    return o * i // (o + i) if wrong.equal_counts else (o * i - 1) // (o + i)


# ---------------------------------------------------------------------------------- balanced factors


def _pairs():
    def given(label, o, i, r):
        return case(label, normal(o, r), normal(i, r, seed=1))

    yield given("one column", 2, 3, 1)
    yield given("two columns", 3, 2, 2)
    yield case("one factor far larger than the other", 100 * normal(3, 2), normal(4, 2, seed=1) / 100)
    yield given("tall factors: never the whole matrix", 60, 50, 3)


def _seen(pair):
    u, v = pair
    return u @ v.mT, u.mT @ u, v.mT @ v


@exercises.add(
    cases=_pairs,
    see=_seen,
    rtol=1e-5,
    atol=1e-7,
    rules=[
        no_tensor_above(
            lambda u, v: max(u.numel(), v.numel(), 4 * u.shape[1] ** 2),
            "multiply the small factors of QR, not U and V",
        )
    ],
    hints=(
        "Write U = Q R and V = P S by torch.linalg.qr: then U V' = Q (R S') P', and R S' is r by r.",
        "The SVD A diag(s) B' of the small matrix R S' gives Q A diag(s) (P B)': share out the roots of s.",
    ),
)
def my_balanced(u, v):
    # Where only r singular values differ from zero, the derivative of the SVD is not finite.
    p, s, qh = torch.linalg.svd((u @ v.mT).detach(), full_matrices=False)
    r = u.shape[1]
    return p[:, :r] * s[:r].sqrt(), qh[:r].mT * s[:r].sqrt()


@my_balanced.mistakes(
    all_left="The product is right, but all singular values sit in U. Share them out.",
    all_right="The product is right, but all singular values sit in V. Share them out.",
    squared="Your product holds the squares of the singular values: S on both sides. What times itself is S?",
    ones="The singular values are gone from the product.",
    unchanged="The factors are as they came: their columns are neither orthogonal nor equally long.",
    scaled_only="The columns are equally long now, but not orthogonal: scaling is not enough.",
    only_u="U has orthonormal columns now, and V holds the rest: share out what is left (an SVD of the small factor).",
    vh_for_v="torch.linalg.svd returns its third factor transposed already (Vh): V' is to become V again.",
    core_turned="With U = Q R and V = P S, the small matrix in between is R S': transpose S, not R.",
    core_untransposed="With U = Q R and V = P S, the small matrix in between is R S': S is transposed.",
    scaled_as_a_whole="The two factors are equally large now, but their columns are not orthogonal: scaling is not enough.",
)
def _(u, v, *, wrong):
    p, s, qh = torch.linalg.svd(u @ v.mT, full_matrices=False)
    r = u.shape[1]
    left = right = 0.5
    if wrong.all_left:
        left, right = 1, 0
    if wrong.all_right:
        left, right = 0, 1
    if wrong.squared:
        left = right = 1
    if wrong.ones:
        left = right = 0
    if wrong.unchanged:
        return u, v
    if wrong.scaled_as_a_whole:
        ratio = (v.norm() / u.norm()).sqrt()
        return u * ratio, v / ratio
    if wrong.only_u or wrong.vh_for_v or wrong.core_turned or wrong.core_untransposed:
        (qu, ru), (qv, rv) = torch.linalg.qr(u), torch.linalg.qr(v)
        if wrong.only_u:
            return qu, v @ ru.mT
        core = ru.mT @ rv if wrong.core_turned else ru @ rv if wrong.core_untransposed else ru @ rv.mT
        a, s, bh = torch.linalg.svd(core)
        return qu @ a * s.sqrt(), qv @ (bh if wrong.vh_for_v else bh.mT) * s.sqrt()
    if wrong.scaled_only:
        ratio = (v.norm(dim=0) / u.norm(dim=0)).sqrt()
        return u * ratio, v / ratio
    return p[:, :r] * s[:r] ** left, qh[:r].mT * s[:r] ** right


# ------------------------------------------------------------------------ a block tensor train, turned


def _trains():
    def given(label, b, n1, n2, m1, m2, r):
        return case(label, normal(b, m1 * m2), normal(m1, m2, n1, r), normal(m2, n1, n2, r, seed=1))

    yield given("all sizes one", 1, 1, 1, 1, 1, 1)
    yield given("two outputs of the first factor", 1, 1, 2, 2, 1, 1)
    yield given("rank one", 1, 2, 2, 2, 2, 1)
    yield given("rank two", 1, 2, 1, 1, 2, 2)
    yield given("all sizes differ", 3, 2, 3, 5, 4, 2)
    yield given("large: never the whole matrix", 2, 8, 8, 8, 8, 2)


@exercises.add(
    cases=_trains,
    rules=[
        no_tensor_above(
            lambda y, left, right: max(y.numel(), left.numel(), right.numel(), len(y) * left[0].numel()) + 64,
            "two products, one factor after the other",
        )
    ],
    hints=(
        "Go backwards: what was summed last in W x is multiplied first in W' y, so left comes first.",
        'z = einsum("bpq,pqis->bqis", y, left) has the axes (b, i2, j1, s); right sums over i2 and s.',
    ),
)
def my_transposed_train(y, left, right):
    return y @ einsum("pqis,qijs->pqij", left, right).flatten(2).flatten(0, 1)


@my_transposed_train.mistakes(
    output_turned="y is read row by row: i1 is the slow index and i2 the fast one. Yours are exchanged.",
    result_turned="The result is read row by row: j1 is the slow index and j2 the fast one. Yours are exchanged.",
    rank_summed_early="You summed over s in each factor by itself. Both share s, so it is summed once, at the end.",
    first_rank="Only the first s counts in your answer.",
    scaled="There is no mean over s: it is summed.",
    rows_summed_early="You summed over i2 in the first product. Both factors have i2, so it is summed in the second one.",
    columns_summed_early="You summed over j1 in the first product. It is an axis of the result.",
)
def _(y, left, right, *, wrong):
    if wrong.output_turned:
        y = y.unflatten(1, (left.shape[1], left.shape[0])).mT.flatten(1)
    if wrong.rank_summed_early:
        left, right = left.sum(-1, keepdim=True), right.sum(-1, keepdim=True)
    if wrong.first_rank:
        left, right = left[..., :1], right[..., :1]
    if wrong.rows_summed_early:
        z = einsum("bpq,pqis->bis", y.unflatten(1, left.shape[:2]), left)
        return einsum("bis,qijs->bij", z, right).flatten(1)
    if wrong.columns_summed_early:
        z = einsum("bpq,pqis->bqs", y.unflatten(1, left.shape[:2]), left)
        return einsum("bqs,qijs->bij", z, right).flatten(1)
    matrix = einsum("pqis,qijs->pqij", left, right).flatten(2).flatten(0, 1)
    x = y @ matrix / (right.shape[-1] if wrong.scaled else 1)
    return x.unflatten(1, right.shape[1:3]).mT.flatten(1) if wrong.result_turned else x


# ------------------------------------------------------------------------- ordered training: find the bugs


def _layers():
    def given(label, o, i, r, n, b):
        return case(label, normal(o, r), normal(i, r, seed=1), normal(n, i), normal(n, o, seed=2), b, 0.1)

    yield given("one sample, one column of one", 1, 1, 1, 1, 1)
    yield given("one of two columns", 1, 2, 2, 1, 1)
    yield given("several samples", 2, 1, 2, 3, 1)
    yield given("two of four columns", 5, 4, 4, 7, 2)
    yield given("all columns", 2, 3, 2, 5, 2)


@exercises.add(
    cases=_layers,
    hints=(
        "Compare line by line with the statement: which columns make the prediction, which move?",
        "Both gradients belong to the old factors: is one of them computed with a new one?",
        "The loss is a mean over the samples. By what is the gradient divided?",
    ),
)
def my_ordered_step(u, v, x, y, b, lr):
    def loss(factors):
        p, q = factors
        return 0.5 * (x @ q[:, :b] @ p[:, :b].mT - y).square().sum(1).mean()

    du, dv = torch.func.grad(loss)((u, v))
    return (u - lr * du).detach(), (v - lr * dv).detach()  # a step of training: nobody differentiates it


@my_ordered_step.mistakes(
    all_columns_move="Columns beyond b move. They did not take part in this step.",
    full_residual="The residual must come from the first b columns alone, not from the full product.",
    new_u_for_v="The new U is used for the gradient of V. Both gradients belong to the old factors.",
    new_v_for_u="The new V is used for the gradient of U. Both gradients belong to the old factors.",
    summed="The loss is a mean over the samples; your step is that of the sum.",
    without_the_half="The half before the square is there so that no 2 remains in the gradients.",
    mean_over_entries="The mean is over the samples alone: divide by n, not by all entries of y.",
    uphill="Your step goes uphill: descent subtracts the gradient.",
    u_only="V does not move in your step.",
    last_columns="The first b columns move, not the last.",
    others_cleared="The other columns stay as they are; yours become zero.",
    one_column="All of the first b columns move, not only the last of them.",
)
def _(u, v, x, y, b, lr, *, wrong):
    keep = (torch.arange(u.shape[1]) < b).to(u)
    if wrong.last_columns:
        keep = keep.flip(0)
    e = (x @ v @ u.mT if wrong.full_residual else x @ (v * keep) @ (u * keep).mT) - y
    e = e / (1 if wrong.summed else y.numel() if wrong.mean_over_entries else len(x))
    e = e * (2 if wrong.without_the_half else 1) * (-1 if wrong.uphill else 1)
    move = torch.ones_like(keep) if wrong.all_columns_move else keep
    if wrong.new_v_for_u:
        v_new = v - lr * move * (x.mT @ e @ u)
        return u - lr * move * (e.mT @ x @ v_new), v_new
    u_new = u - lr * move * (e.mT @ x @ v)
    if wrong.one_column:
        last = (torch.arange(u.shape[1]) == b - 1).to(u)
        return u - lr * last * (e.mT @ x @ v), v - lr * last * (x.mT @ e @ u)
    if wrong.others_cleared:
        return u_new * keep, (v - lr * move * (x.mT @ e @ u)) * keep
    if wrong.u_only:
        return u_new, v.clone()
    return u_new, v - lr * move * (x.mT @ e @ (u_new if wrong.new_u_for_v else u))


# ------------------------------------------------------------------------------------ two counter-examples


def _kronecker_error(matrix):
    """The relative error of the best Kronecker product of two matrices of 2 by 2."""
    rearranged = matrix.reshape(2, 2, 2, 2).permute(0, 2, 1, 3).reshape(4, 4)
    s = torch.linalg.svdvals(rearranged)
    return (s[1:].norm() / s.norm()).item()


def _rank_error(matrix, rank):
    s = torch.linalg.svdvals(matrix)
    return (s[rank:].norm() / s.norm()).item()


@exercises.accept(
    hints=(
        "Which matrix is a Kronecker product of two others and has four equal singular values?",
        "A matrix a b' of rank one is a Kronecker product if a and b are. Which vector of four numbers is none?",
    )
)
def my_easy_and_hard(result):
    if not (isinstance(result, tuple | list) and len(result) == 2):
        return "returns two matrices: one that is easy for a Kronecker product, one that is easy for rank one"
    first, second = (torch.as_tensor(m).double() for m in result)
    for matrix in (first, second):
        if matrix.shape != (4, 4):
            return f"wants matrices of 4 by 4, got {tuple(matrix.shape)}"
        if not torch.isfinite(matrix).all() or not matrix.any():
            return "wants matrices of finite numbers that are not all zero"
    if (error := _kronecker_error(first)) > 1e-6:
        return f"holds a first matrix that is no Kronecker product of two of 2 by 2: the best one misses {error:.0%}"
    if (error := _rank_error(first, 2)) < 0.7:
        return (
            f"holds a first matrix that two columns describe too well: rank 2 misses only {error:.0%} of it"
        )
    if (error := _rank_error(second, 1)) > 1e-6:
        return f"holds a second matrix that has not rank one: the best of rank one misses {error:.0%}"
    if (error := _kronecker_error(second)) < 0.6:
        return (
            f"holds a second matrix that a Kronecker product describes too well: it misses only {error:.0%}"
        )
    return ""


# ---------------------------------------------------------------------------------------- truncations


def _truncations():
    def given(label, o, i, r):
        return case(label, normal(o, i), normal(o, r, seed=1), normal(i, r, seed=2))

    yield given("one column of two", 2, 2, 2)
    yield given("two of three", 3, 4, 3)
    yield given("more", 6, 5, 4)


@exercises.add(
    cases=_truncations,
    hints=(
        "torch.linalg.svdvals(target) is sorted: what rank b must miss is the norm of those from b on.",
        "For b = 1, ..., r - 1: (target - u[:, :b] @ v[:, :b].mT).norm() / singular_values[b:].norm().",
    ),
)
def my_truncation_errors(target, u, v):
    s = torch.linalg.svdvals(target)
    best = s.square().flip(0).cumsum(0).flip(0).sqrt()
    ours = [
        torch.linalg.matrix_norm(target - einsum("or,ir->oi", u[:, :b], v[:, :b]))
        for b in range(1, u.shape[1])
    ]
    return torch.stack(ours) / best[1 : u.shape[1]]


@my_truncation_errors.mistakes(
    absolute="These are the errors; the statement asks for their ratio to the best ones.",
    squared="Norms are asked, not their squares.",
    next_value_only="The best matrix of rank b misses all singular values after the first b, not only the next.",
    from_zero="Begin with one column, not with none.",
    by_norm_of_target="Divide by the error of the best matrix of that rank, not by the norm of the target.",
    one_off="Rank b keeps b singular values; yours keeps one more, or one less.",
    no_root="The least error is the root of the sum of squares: yours is the sum.",
    squares_over_root="The numerator is a norm as well: take its root.",
    sum_of_values="The squares of the singular values are added up, then comes the root; you add the values themselves.",
    spectral="The Frobenius norm of the error is asked, the root of the sum of all squares (not the largest singular value).",
    of_the_product="The best matrices of rank b approximate the target: its singular values, not those of your product.",
    one_column="The truncation has the columns 0, ..., b - 1; yours has a single one.",
)
def _(target, u, v, *, wrong):
    s = torch.linalg.svdvals(target)
    first = 0 if wrong.from_zero else 1
    last = u.shape[1] - 1 if wrong.from_zero else u.shape[1]
    ratios = []
    for b in range(first, last):
        begin = b - 1 if wrong.one_column else 0
        gap = target - u[:, begin:b] @ v[:, begin:b].mT
        ours = torch.linalg.matrix_norm(gap, 2) if wrong.spectral else gap.norm()
        if wrong.of_the_product:
            s = torch.linalg.svdvals(u @ v.mT)
        best = s[b] if wrong.next_value_only else s[b - 1 if wrong.one_off else b :].norm()
        if wrong.no_root:
            best = best.square()
        if wrong.squares_over_root:
            ours = ours.square()
        if wrong.sum_of_values:
            best = s[b:].sum()
        if wrong.absolute:
            best = torch.ones(())
        if wrong.by_norm_of_target:
            best = target.norm()
        ratios.append((ours / best) ** (2 if wrong.squared else 1))
    return torch.stack(ratios)
