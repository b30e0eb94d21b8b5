"""A layer of tables, and a mesh of interferometers."""

import math

import torch

from course_lib.classroom.answers import case, normal
from course_lib.exercises.layers.structured._chapter import exercises
from course_lib.layers import structured


@exercises.add(
    cases=[
        case("one entry", torch.tensor([[2.0], [-1.0]]), 1),
        case("two entries: which of them counts 1, which 2?", torch.tensor([[2.0, -1.0], [-1.0, 3.0]]), 2),
        case("zero is not positive", torch.tensor([[0.0, 1.0]]), 2),
        case("two chunks of neighbours", torch.tensor([[1.0, -1.0, -2.0, 3.0]]), 2),
        case("three chunks of three", normal(4, 9), 3),
    ],
    hints=(
        "x.unflatten(1, (-1, bits)) gives the chunks an axis of their own.",
        "2 ** torch.arange(bits) holds the value of each bit; add up those of the positive entries.",
    ),
)
def my_addresses(x, bits):
    z = x.unflatten(1, (-1, bits)) > 0
    return sum(z[..., i].long() << i for i in range(bits))


@my_addresses.mistakes(
    reversed_bits="Your address counts the first entry of a chunk as the highest bit; bit i has the value 2 ** i.",
    interleaved="A chunk holds neighbouring entries; yours takes every so many-th one.",
    negative_bits="A bit is set where the entry is positive; yours is set where it is not.",
    zero_is_positive="Zero is not positive.",
    from_one="The bits have the values 1, 2, 4, ...; yours begin with 2.",
    counted="You count the positive entries; each has a value of its own, 2 ** i.",
    floats="An address is an integer: it is to pick a row.",
    places="You add up the numbers i of the positive entries; each counts 2 ** i.",
    minus="An entry that is not positive adds nothing: yours takes its bit away.",
)
def _(x, bits, *, wrong):
    z = x.unflatten(1, (bits, -1)).mT if wrong.interleaved else x.unflatten(1, (-1, bits))
    positive = z >= 0 if wrong.zero_is_positive else z > 0
    if wrong.negative_bits:
        positive = ~positive
    values = 2 ** torch.arange(bits)
    if wrong.reversed_bits:
        values = values.flip(0)
    if wrong.counted:
        values = torch.ones_like(values)
    if wrong.places:
        values = torch.arange(bits)
    if wrong.minus:
        return (z.sign().long() * values).sum(-1)
    address = (positive * values).sum(-1) * (2 if wrong.from_one else 1)
    return address.double() if wrong.floats else address


def _lookups():
    def given(label, b, chunks, bits, o, t):
        return case(label, normal(b, chunks * bits), normal(chunks, 2**bits, o), t)

    yield given("one entry, temperature 1", 1, 1, 1, 1, 1.0)
    yield given("one entry, temperature 2", 1, 1, 1, 1, 2.0)
    yield given("two chunks of one", 1, 2, 1, 1, 1.0)
    yield given("a chunk of two", 2, 1, 2, 1, 1.0)
    yield given("two chunks of three, cold", 6, 2, 3, 5, 0.5)
    yield given("three chunks of two", 5, 3, 2, 4, 1.5)


@exercises.add(
    cases=_lookups,
    hints=(
        "p = torch.sigmoid(2 * z.abs() / t).prod(-1), one number a chunk.",
        "tables[torch.arange(chunks), addresses] picks a row of each chunk's own table: (b, chunks, o).",
    ),
)
def my_memory(x, tables, t):
    return structured.memory_linear_naive(x, tables, t)


@my_memory.mistakes(
    no_absolute_value="p is tiny wherever an entry is negative. The nearest corner is as near on that side: where is | |?",
    no_factor_two="The two corners of one bit are 2 apart: exp(z/t) against exp(-z/t). A factor is missing in the sigmoid.",
    mean_over_bits="p is a product over the entries of a chunk, not a mean.",
    sum_over_bits="p is a product over the entries of a chunk, not a sum.",
    no_weight="Without p no gradient reaches the input: weight every row.",
    no_temperature="The temperature divides the entries: where is t?",
    times_temperature="The temperature divides; you multiply with it.",
    one_table="Every chunk has its own table; you look all of them up in the first one.",
    mean_over_chunks="The rows of all chunks are added up, not averaged.",
    reversed_bits="The address counts the first entry of a chunk as the highest bit; bit i has the value 2 ** i.",
    interleaved="A chunk holds neighbouring entries; yours takes every so many-th one.",
    sign_of_exponent="p is near one far from zero: look at the sign in the exponent.",
    product_of_chunks="p belongs to a chunk: each row is weighed by its own, not by the product over all chunks.",
    every_table="An address picks one row of its own chunk's table; yours adds up rows of all tables.",
)
def _(x, tables, t, *, wrong):
    chunks, rows, _ = tables.shape
    bits = rows.bit_length() - 1
    z = x.reshape(-1, bits, chunks).mT if wrong.interleaved else x.reshape(-1, chunks, bits)
    values = 2 ** torch.arange(bits)
    address = ((z > 0) * (values.flip(0) if wrong.reversed_bits else values)).sum(-1)
    size = z if wrong.no_absolute_value else z.abs()
    heat = 1.0 if wrong.no_temperature else 1 / t if wrong.times_temperature else t
    factor = -2 if wrong.sign_of_exponent else 1 if wrong.no_factor_two else 2
    s = torch.sigmoid(factor * size / heat)
    p = s.mean(-1) if wrong.mean_over_bits else s.sum(-1) if wrong.sum_over_bits else s.prod(-1)
    if wrong.product_of_chunks:
        p = p.prod(-1, keepdim=True).expand_as(p)
    if wrong.every_table:
        tables = tables.sum(0, keepdim=True).expand_as(tables)
    if wrong.no_weight:
        p = torch.ones_like(p) + 0 * z.sum(-1)
    table = tables[:1].expand_as(tables) if wrong.one_table else tables
    rows = p[..., None] * table[torch.arange(chunks), address]
    return rows.mean(1) if wrong.mean_over_chunks else rows.sum(1)


# --------------------------------------------------------------------------------- an interferometer


def _unitaries():
    for label, n, k, m, seed in (
        ("two by two", 2, 1, 0, 0),
        ("columns 1 and 2", 3, 1, 1, 1),
        ("four by four", 4, 3, 0, 2),
    ):
        z = torch.view_as_complex(normal(n, n, 2, seed=seed))
        yield case(label, torch.linalg.qr(z).Q.clone(), k, m)


@exercises.add(
    cases=_unitaries,
    hints=(
        "torch.atan2(a.abs(), b.abs()) also holds where b is zero; a.angle() is the phase of a complex number.",
        "T is a matrix of four complex numbers (torch.stack keeps the gradient); T.mH is its conjugate transpose.",
    ),
)
def my_zero(u, k, m):
    a, b = u[k, m], u[k, m + 1]
    t = structured.mzi(torch.atan2(a.abs(), b.abs()), a.angle() - b.angle()).mH
    return torch.cat([u[:, :m], u[:, m : m + 2] @ t, u[:, m + 2 :]], dim=1)


@my_zero.mistakes(
    not_inverted="You multiplied by T itself. The inverse of a unitary matrix is its conjugate transpose.",
    not_conjugated="The phase has the wrong sign: T transposed but not conjugated, or arg b - arg a for arg a - arg b.",
    not_transposed="Conjugated, but not transposed.",
    angle_upside_down="theta is the arctangent of |a| / |b|, not of |b| / |a|: with a = 0 nothing must move.",
    no_phase="The lengths are right, but two complex numbers cancel only if their phases agree: where is phi?",
    detached="The values are right. T is made of the entries of U: keep that path for the gradient (torch.stack).",
    rows_mixed="You mixed two rows. Columns are mixed by a matrix on the right.",
    half_phase="phi is the difference of the two phases: arg a - arg b, not arg a alone.",
    next_row="a and b stand side by side in row k, in the columns m and m + 1.",
    set_to_zero="The entry is set to zero, and nothing else moves: the result is no longer unitary.",
)
def _(u, k, m, *, wrong):
    a, b = u[k, m], u[k, m + 1]
    theta, phi = torch.atan2(a.abs(), b.abs()), a.angle() - b.angle()
    if wrong.detached:
        theta, phi = theta.detach(), phi.detach()
    if wrong.angle_upside_down:
        theta = math.pi / 2 - theta
    if wrong.no_phase:
        phi = 0 * phi
    if wrong.half_phase:
        phi = a.angle()
    if wrong.next_row:
        below = u[(k + 1) % len(u), m]
        theta, phi = torch.atan2(a.abs(), below.abs()), a.angle() - below.angle()
    t = structured.mzi(theta, phi)
    if wrong.set_to_zero:
        mask = torch.ones(u.shape)
        mask[k, m] = 0
        return u * mask
    if wrong.rows_mixed:
        return torch.cat([u[: k - 1], t.mH @ u[k - 1 : k + 1], u[k + 1 :]])
    if not wrong.not_inverted:
        t = t.mT if wrong.not_conjugated else t.conj() if wrong.not_transposed else t.mH
    return torch.cat([u[:, :m], u[:, m : m + 2] @ t, u[:, m + 2 :]], dim=1)
