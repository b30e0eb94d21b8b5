"""Counts of operations against closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.compare.count import Operations, count_operations, count_parameters
from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.norm import LayerNorm


def x(*shape, complex_=False):
    return torch.zeros(*shape, dtype=torch.complex64 if complex_ else torch.float32)


PRODUCTS = {
    "linear": (nn.Linear(3, 5), [x(1, 3)], 15, 5),
    "linear without bias over tokens": (nn.Linear(3, 5, bias=False), [x(2, 7, 3)], 14 * 15, 0),
    "grouped convolution": (nn.Conv2d(4, 6, 3, padding=1, groups=2), [x(1, 4, 7, 5)], 35 * 6 * 2 * 9, 35 * 6),
    "convolution in one dimension": (nn.Conv1d(4, 6, 3, bias=False), [x(1, 4, 11)], 9 * 6 * 4 * 3, 0),
    "transposed convolution": (nn.ConvTranspose2d(4, 6, 3, bias=False), [x(1, 4, 5, 5)], 25 * 6 * 4 * 9, 0),
    "fused attention": (
        F.scaled_dot_product_attention,
        [x(1, 2, 5, 4), x(1, 2, 7, 4), x(1, 2, 7, 4)],
        560,
        0,
    ),
    "attention as written": (
        lambda q, k, v: torch.softmax(q @ k.mT, -1) @ v,
        [x(1, 2, 5, 4), x(1, 2, 7, 4), x(1, 2, 7, 3)],
        490,
        70,
    ),
    "einsum": (lambda a, b: torch.einsum("bik,bkj->bij", a, b), [x(2, 3, 4), x(2, 4, 5)], 2 * 3 * 4 * 5, 0),
    "matrix and vector": (torch.mv, [x(3, 4), x(4)], 12, 0),
    "inner product": (torch.dot, [x(4), x(4)], 4, 0),
    "bilinear": (nn.Bilinear(3, 4, 5, bias=False), [x(2, 3), x(2, 4)], 2 * 60, 0),
    "distances": (torch.cdist, [x(3, 5), x(4, 5)], 60, 0),
    "complex Fourier transform": (torch.fft.fft, [x(1, 16, complex_=True)], 2 * 16 * 4, 0),
    "real Fourier transform": (torch.fft.rfft, [x(3, 16)], 3 * 16 * 4, 0),
    "inverse real transform": (lambda z: torch.fft.irfft(z, n=16), [x(1, 9, complex_=True)], 16 * 4, 0),
    "transform of images": (torch.fft.fft2, [x(1, 8, 16, complex_=True)], 2 * 128 * (3 + 4), 0),
}
ELEMENTWISE = {
    "activation": (nn.GELU(), [x(1, 8)], 8),
    "in two steps": (lambda a: (2 * a).relu(), [x(1, 8)], 16),
    "in place": (lambda a: a.add_(1), [x(8)], 8),
    "broadcast": (lambda a, b: a * b, [x(4, 1), x(1, 5)], 20),
    "sum": (torch.sum, [x(4, 7)], 28),
    "softmax": (nn.Softmax(-1), [x(2, 8)], 16),
    "norm": (nn.LayerNorm(8), [x(2, 8)], 16),
    "max pooling": (nn.MaxPool2d(2), [x(1, 3, 8, 8)], 3 * 16 * 4),
    "overlapping mean": (nn.AvgPool1d(3, 1), [x(1, 2, 8)], 2 * 6 * 3),
    "global mean": (nn.AdaptiveAvgPool2d(1), [x(1, 3, 8, 8)], 3 * 64),
    "only moved": (lambda a: torch.cat([a[:, [0, 2]].flip(1), a.mT.reshape(1, -1)], 1).roll(1), [x(1, 3)], 0),
    "only made": (lambda: torch.zeros(3) if torch.rand(2).shape else torch.ones(3), [], 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_count_their_multiply_adds(name):
    function, inputs, multiply_adds, elementwise = PRODUCTS[name]
    assert count_operations(function, *inputs) == Operations(multiply_adds, elementwise)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_everything_else_counts_the_elements_of_its_larger_side(name):
    function, inputs, elementwise = ELEMENTWISE[name]
    assert count_operations(function, *inputs) == Operations(0, elementwise)


def test_layers_that_torch_runs_as_one_operation_are_looked_into():
    b, t, d, h = 1, 5, 8, 16
    block = nn.TransformerEncoderLayer(d, 2, h, batch_first=True).eval()
    expected = 4 * t * d * d + 2 * t * t * d + 2 * t * d * h
    assert count_operations(block, x(b, t, d)).multiply_adds == expected
    lstm = nn.LSTM(3, 5, batch_first=True)
    assert count_operations(lstm, x(1, 4, 3)).multiply_adds == 4 * (4 * 5 * 3 + 4 * 5 * 5)


def test_our_layers_count_as_their_equations_say():
    t, d = 7, 12
    attention = MultiHeadAttention(d, 3)
    assert count_operations(attention, x(1, t, d)).multiply_adds == 4 * t * d * d + 2 * t * t * d
    assert count_operations(LayerNorm(d), x(1, d)).multiply_adds == 0


def test_counts_grow_with_the_batch_and_leave_torch_as_it_was():
    settings = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    one, two = (count_operations(nn.Conv2d(2, 3, 3), x(b, 2, 6, 6)).total for b in (1, 2))
    assert two == 2 * one
    assert settings == (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled)


def test_an_n_log_n_algorithm_counts_less_than_the_matrix_it_replaces():
    n = 256

    def circular(a, b):
        return torch.fft.irfft(torch.fft.rfft(a) * torch.fft.rfft(b), n=n)

    fast = count_operations(circular, x(n), x(n))
    assert fast.multiply_adds == 3 * n * int(math.log2(n))
    assert fast.elementwise == n // 2 + 1
    assert fast.total < count_operations(torch.mv, x(n, n), x(n)).total / 8


def test_parameters_count_once_and_only_if_they_are_trained():
    layer = nn.Linear(4, 4)
    shared = nn.Sequential(layer, nn.ReLU(), layer)
    assert count_parameters(shared) == 20
    layer.bias.requires_grad_(False)
    assert count_parameters(shared) == 16
