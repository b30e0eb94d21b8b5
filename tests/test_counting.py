"""The counter against closed forms, against torch's own where that is right, and against itself."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_lib.counting import operations, recording
from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.norm import LayerNorm


def x(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


def z(*shape):
    return x(*shape, dtype=torch.complex64)


def i(*shape):
    return x(*shape, dtype=torch.int64)


def multiply_adds(function, *inputs):
    return sum(o.multiply_adds for o in operations(function, *inputs))


def elementwise(function, *inputs):
    return sum(o.elementwise for o in operations(function, *inputs))


def written_out(q, k, v):
    return torch.softmax(q @ k.mT, -1) @ v


QKV = [x(1, 2, 5, 4), x(1, 2, 7, 4), x(1, 2, 7, 4)]
WIDE_V = [*QKV[:2], x(1, 2, 7, 3)]
HALF_MASKED = torch.ones(5, 7, dtype=torch.bool).tril()


def masked(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=HALF_MASKED)


def grouped(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


# Name: function, inputs, multiply-adds, elementwise operations.
PRODUCTS = {
    "linear": (nn.Linear(3, 5), [x(1, 3)], 15, 5),
    "linear of one vector": (nn.Linear(3, 5), [x(3)], 15, 5),
    "linear of one vector, no bias": (nn.Linear(3, 5, bias=False), [x(3)], 15, 0),
    "linear over tokens": (nn.Linear(3, 5, bias=False), [x(2, 7, 3)], 14 * 15, 0),
    "functional linear": (F.linear, [x(3), x(5, 3), x(5)], 15, 5),
    "matrix and vector": (torch.mv, [x(3, 4), x(4)], 12, 0),
    "batch and vector": (torch.matmul, [x(2, 3, 4), x(4)], 24, 0),
    "vector and matrix": (torch.matmul, [x(4), x(4, 3)], 12, 0),
    "vector added": (torch.addmv, [x(3), x(3, 4), x(4)], 12, 3),
    "inner product": (torch.dot, [x(4), x(4)], 4, 0),
    "complex inner product": (torch.vdot, [z(4), z(4)], 16, 0),
    "outer product added": (torch.addr, [x(3, 4), x(3), x(4)], 12, 12),
    "batched product": (torch.bmm, [x(2, 3, 4), x(2, 4, 5)], 120, 0),
    "batched product added": (torch.baddbmm, [x(2, 3, 5), x(2, 3, 4), x(2, 4, 5)], 120, 30),
    "added to nothing": (
        lambda c, a, b: torch.baddbmm(c, a, b, beta=0),
        [x(2, 3, 5), x(2, 3, 4), x(2, 4, 5)],
        120,
        0,
    ),
    "summed products": (torch.addbmm, [x(3, 5), x(2, 3, 4), x(2, 4, 5)], 120, 15),
    "chain": (lambda *m: torch.linalg.multi_dot(m), [x(2, 3), x(3, 4), x(4, 5)], 24 + 40, 0),
    "complex product": (torch.matmul, [z(3, 4), z(4, 5)], 4 * 60, 0),
    "expanded product": (lambda a, b: a.expand(6, 4) @ b, [x(1, 4), x(4, 5)], 120, 0),
    "sparse product": (torch.mm, [torch.eye(4).to_sparse(), x(4, 5)], 4 * 5, 0),
    "einsum": (
        lambda a, b: torch.einsum("bik,bkj->bij", a, b),
        [x(2, 3, 4), x(2, 4, 5)],
        120,
        0,
    ),
    "einsum of vectors": (lambda a, b: torch.einsum("bi,bi->b", a, b), [x(2, 3), x(2, 3)], 6, 0),
    "tensordot": (lambda a, b: torch.tensordot(a, b, 2), [x(2, 3, 4), x(3, 4, 5)], 120, 0),
    "bilinear": (nn.Bilinear(3, 4, 5), [x(2, 3), x(2, 4)], 2 * 60, 10),
    "convolution": (nn.Conv2d(4, 6, 3), [x(1, 4, 7, 5)], 15 * 6 * 4 * 9, 15 * 6),
    "grouped": (
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        [x(1, 4, 7, 5)],
        35 * 6 * 2 * 9,
        35 * 6,
    ),
    "depthwise": (nn.Conv1d(4, 4, 3, groups=4, bias=False), [x(2, 4, 11)], 2 * 9 * 4 * 3, 0),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2, bias=False), [x(1, 4, 7, 6)], 3 * 2 * 6 * 4 * 9, 0),
    "strided": (nn.Conv3d(2, 3, 2, stride=2, bias=False), [x(1, 2, 4, 4, 4)], 8 * 3 * 2 * 8, 0),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, bias=False), [x(1, 4, 5, 5)], 25 * 6 * 4 * 9, 0),
    "transposed in groups": (
        nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2, bias=False),
        [x(2, 4, 5)],
        2 * 4 * 5 * 3 * 3,
        0,
    ),
    "attention, fused": (F.scaled_dot_product_attention, QKV, 560, 70),
    "attention, written out": (written_out, QKV, 560, 70),
    "attention, wide values": (written_out, WIDE_V, 490, 70),
    "attention, masked": (masked, QKV, 560, 70),
    "attention, shared keys": (grouped, [x(1, 6, 5, 4), *QKV[1:]], 3 * 560, 3 * 70),
    "small distances": (torch.cdist, [x(3, 5), x(4, 5)], 60, 0),
    "large distances": (torch.cdist, [x(30, 5), x(40, 5)], 6000, 0),
    "distances by another norm": (lambda a, b: torch.cdist(a, b, 1.0), [x(3, 5), x(4, 5)], 60, 0),
    "distances of pairs": (torch.pdist, [x(30, 5)], 5 * 30 * 29 / 2, 0),
    "complex Fourier transform": (torch.fft.fft, [z(1, 16)], 2 * 16 * 4, 0),
    "real Fourier transform": (torch.fft.rfft, [x(3, 16)], 3 * 16 * 4, 0),
    "inverse real transform": (lambda a: torch.fft.irfft(a, n=16), [z(1, 9)], 16 * 4, 0),
    "transform of images": (torch.fft.fft2, [z(1, 8, 16)], 2 * 128 * (3 + 4), 0),
    "real transform of images": (torch.fft.rfft2, [x(1, 8, 16)], 128 * (3 + 4), 0),
    "solve": (
        torch.linalg.solve,
        [torch.eye(6).expand(2, 6, 6), x(2, 6, 4)],
        2 * (72 + 144),
        0,
    ),
    "inverse": (torch.linalg.inv, [torch.eye(6)], 216, 0),
    "determinant": (torch.linalg.det, [torch.eye(6)], 72, 0),
    "Cholesky": (torch.linalg.cholesky, [torch.eye(6)], 36, 0),
}
ELEMENTWISE = {
    "activation": (nn.GELU(), [x(1, 8)], 8),
    "in two steps": (lambda a: (2 * a).relu(), [x(1, 8)], 16),
    "in place": (lambda a: a.add_(1), [x(8)], 8),
    "broadcast": (lambda a, b: a * b, [x(4, 1), x(1, 5)], 20),
    "outer product": (torch.outer, [x(3), x(4)], 12),
    "sum": (torch.sum, [x(4, 7)], 28),
    "softmax": (nn.Softmax(-1), [x(2, 8)], 16),
    "norm": (nn.LayerNorm(8), [x(2, 8)], 16),
    "max pooling": (nn.MaxPool2d(2), [x(1, 3, 8, 8)], 3 * 16 * 4),
    "max pooling of a signal": (nn.MaxPool1d(3, 1), [x(1, 2, 8)], 2 * 6 * 3),
    "overlapping mean": (nn.AvgPool1d(3, 1), [x(1, 2, 8)], 2 * 6 * 3),
    "global mean": (nn.AdaptiveAvgPool2d(1), [x(1, 3, 8, 8)], 3 * 64),
    "bag of embeddings": (nn.EmbeddingBag(100, 3), [i(2, 4)], 2 * 4 * 3),
    "scattered sum": (lambda a, j, b: a.scatter_add(0, j, b), [x(100), i(7), x(7)], 7),
    "embedding": (nn.Embedding(10, 3), [i(5)], 0),
    "only moved": (
        lambda a: torch.cat([a[:, [0, 2]].flip(1), a.mT.reshape(1, -1)], 1).roll(1),
        [x(1, 3)],
        0,
    ),
    "only renamed": (lambda a: a.unsqueeze_(0).squeeze_(0).chunk(3, 1)[0].mT, [x(1, 3)], 0),
    "repeated pixels": (nn.Upsample(scale_factor=2), [x(1, 2, 3, 3)], 0),
    "only made": (
        lambda: torch.zeros(3) if torch.rand(2).shape else torch.ones(3),
        [],
        0,
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_count_their_multiply_adds(name):
    function, inputs, wanted, besides = PRODUCTS[name]
    found = operations(function, *inputs)
    assert sum(o.multiply_adds for o in found) == wanted
    if name != "distances of pairs":  # their vectors are compared pair by pair, inside
        assert sum(o.elementwise for o in found) == besides
    assert not {"linear", "matmul", "einsum"} & {o.name for o in found}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_everything_else_counts_the_elements_of_its_larger_side(name):
    function, inputs, wanted = ELEMENTWISE[name]
    assert elementwise(function, *inputs) == wanted
    assert multiply_adds(function, *inputs) == 0


@pytest.mark.parametrize("name", PRODUCTS)
def test_inference_mode_in_which_torch_shows_less_changes_no_count(name):
    function, inputs, *_ = PRODUCTS[name]

    def inferred(*given):
        with torch.inference_mode():
            return function(*given)

    assert multiply_adds(inferred, *inputs) == multiply_adds(function, *inputs)
    assert elementwise(inferred, *inputs) == elementwise(function, *inputs)


# torch.utils.flop_counter counts nothing in fused attention on a CPU, matrix-vector products,
# distances, Fourier transforms and solvers, and takes complex numbers for real ones.
KINDS = ("linear", "batched", "grouped", "depthwise", "dilated", "strided", "transposed", "chain")
TORCH_COUNTS = [name for name in PRODUCTS if name.startswith((*KINDS, "convolution", "tensordot"))]
TORCH_COUNTS += ["attention, written out", "attention, wide values", "einsum"]


@pytest.mark.parametrize("name", TORCH_COUNTS)
def test_torchs_own_counter_agrees_where_it_is_right(name):
    function, inputs, *_ = PRODUCTS[name]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function(*inputs)
    assert counter.get_total_flops() == 2 * multiply_adds(function, *inputs)


def test_a_training_step_counts_its_backward_pass_as_torch_does():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(48, 5))
    images = torch.randn(2, 1, 6, 6)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    with recording() as found:
        model(images).sum().backward()
    assert 2 * sum(o.multiply_adds for o in found) == counter.get_total_flops()


B, T, D, H = 2, 5, 8, 16
ENCODER = B * (4 * T * D * D + 2 * T * T * D + 2 * T * D * H)
FUSED = {  # layers that torch may run as one operation
    "transformer layer": (
        nn.TransformerEncoderLayer(D, 2, H, batch_first=True),
        [x(B, T, D)],
        ENCODER,
    ),
    "transformer": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(D, 2, H, batch_first=True), 3),
        [x(B, T, D)],
        3 * ENCODER,
    ),
    "attention": (
        nn.MultiheadAttention(D, 2, batch_first=True),
        [x(B, T, D)] * 3,
        B * (4 * T * D * D + 2 * T * T * D),
    ),
    "LSTM": (nn.LSTM(3, 5), [x(T, B, 3)], B * T * 4 * 5 * (3 + 5)),
    "two-way GRU": (nn.GRU(3, 5, bidirectional=True), [x(T, B, 3)], 2 * B * T * 3 * 5 * (3 + 5)),
    "RNN": (nn.RNN(3, 5, bias=False), [x(T, B, 3)], B * T * 5 * (3 + 5)),
    "LSTM cell": (nn.LSTMCell(3, 5), [x(B, 3)], B * 4 * 5 * (3 + 5)),
}


@pytest.mark.parametrize("name", FUSED)
def test_layers_that_torch_runs_as_one_operation_are_looked_into(name):
    layer, inputs, wanted = FUSED[name]
    assert multiply_adds(layer.eval(), *inputs) == wanted
    assert multiply_adds(layer.train(), *inputs) == wanted


def test_torch_is_left_as_it_was_also_by_a_function_that_fails():
    def settings():
        enabled = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
        return torch.backends.mha.get_fastpath_enabled(), *enabled, torch.is_grad_enabled()

    before = settings()
    multiply_adds(nn.Linear(3, 5), x(3))
    with pytest.raises(RuntimeError):
        operations(torch.mv, x(3, 4), x(3))
    assert settings() == before


def test_our_layers_count_as_their_equations_say():
    t, d = 7, 12
    assert multiply_adds(MultiHeadAttention(d, 3), x(1, t, d)) == 4 * t * d * d + 2 * t * t * d
    assert multiply_adds(LayerNorm(d), x(1, d)) == 0


def test_an_n_log_n_algorithm_counts_less_than_the_matrix_it_replaces():
    n = 256

    def circular(a, b):
        return torch.fft.irfft(torch.fft.rfft(a) * torch.fft.rfft(b), n=n)

    assert multiply_adds(circular, x(n), x(n)) == 3 * n * int(math.log2(n))
    assert elementwise(circular, x(n), x(n)) == n // 2 + 1
    assert multiply_adds(circular, x(n), x(n)) < multiply_adds(torch.mv, x(n, n), x(n)) / 8


def eliminated(n):
    """Multiply-adds of Gaussian elimination of n equations, one by one."""
    return sum((n - k) * (n - k) for k in range(1, n))


def test_solving_counts_the_leading_term_of_elimination():
    found = multiply_adds(torch.linalg.det, torch.eye(300))
    assert found == pytest.approx(eliminated(300), rel=0.01)


@pytest.mark.parametrize("function", [torch.linalg.eigh, torch.linalg.svd, torch.matrix_exp])
def test_what_repeats_until_it_converges_is_refused(function):
    with pytest.raises(ValueError, match="no fixed number of operations"):
        operations(function, torch.eye(3))


def test_bytes_are_of_all_that_travels_and_of_no_view():
    layer = nn.Linear(4, 6)
    (found,) = operations(lambda a: layer(a.view(5, 4)), x(20))
    assert (found.inputs, found.weights) == (20 + 24 + 6, 0)  # a bare function has no weights
    (found,) = operations(layer, x(5, 4))
    assert (found.name, found.inputs, found.weights, found.outputs) == ("addmm", 20, 30, 30)
    assert (found.bytes_read, found.bytes_written) == (4 * 50, 4 * 30)
    (found,) = operations(nn.Linear(4, 6).double(), x(5, 4).double())
    assert (found.bytes_read, found.bytes_written) == (8 * 50, 8 * 30)
    assert operations(lambda a: a.mT.unsqueeze(0).squeeze_(0), x(4, 5)) == []


def test_of_a_table_only_the_rows_asked_for_travel():
    (found,) = operations(nn.Embedding(1000, 3), i(5))
    assert (found.inputs, found.weights, found.outputs) == (5, 15, 15)
    assert found.bytes_read == 8 * 5 + 4 * 15
    (found,) = operations(lambda a: a.expand(9, 3) + 0.0, x(1, 3))
    assert (found.inputs, found.outputs) == (3, 27)  # an expanded tensor is no larger than it was


def test_scores_are_those_of_every_softmax():
    assert sum(o.scores for o in operations(written_out, *QKV)) == 70
    assert sum(o.scores for o in operations(F.scaled_dot_product_attention, *QKV)) == 70
    assert sum(o.scores for o in operations(torch.matmul, x(3, 4), x(4, 5))) == 0
