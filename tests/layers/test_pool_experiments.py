"""What the experiments on pools measure with: similarity, a linear map, an attack."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.compare.count import count_operations, count_parameters
from course_lib.experiments.layers.pool import (
    attacked,
    linear_accuracy,
    resnet50,
    structural_similarity,
)
from tests.vectors import wave


def test_structural_similarity_is_that_of_scikit_image():
    # skimage.metrics.structural_similarity of scikit-image 0.26.0 with gaussian_weights=True, sigma=1.5,
    # use_sample_covariance=False and data_range=1, on the same two images
    x, y = 0.5 + 0.5 * wave((1, 1, 16, 20), 0), 0.5 + 0.4 * wave((1, 1, 16, 20), 0.5)
    assert structural_similarity(x, y) == pytest.approx(0.8566377317447579, abs=1e-12)
    assert structural_similarity(y, x) == pytest.approx(structural_similarity(x, y))
    both = torch.cat([x, y])
    assert structural_similarity(both, both.flip(0)) == pytest.approx(structural_similarity(x, y))
    assert structural_similarity(x, x) == pytest.approx(1.0)


def test_a_linear_map_finds_what_is_linear_and_a_constant():
    x = torch.linspace(-1, 1, 40).reshape(40, 1, 1, 1)
    y = (x.flatten() > 0.1).long()
    assert linear_accuracy((x, y), (x, y)) > 0.9
    same = torch.ones(6, 1, 1, 1)
    classes = torch.tensor([2, 2, 2, 2, 0, 1])
    assert linear_accuracy((same, classes), (same, classes)) == pytest.approx(4 / 6)


def test_an_attack_moves_every_pixel_by_as_much_and_hurts():
    model, x = nn.Conv2d(1, 1, 1).double(), wave((2, 1, 3, 4), 0)
    target = model(x).detach() + 1
    moved = attacked(model, x, target, F.mse_loss)
    torch.testing.assert_close((moved - x).abs(), torch.full_like(x, 4 / 255))
    assert F.mse_loss(model(moved), target) > F.mse_loss(model(x), target)


def test_the_network_of_50_layers_has_the_parameters_and_operations_of_the_authors():
    # resnet50() and resnet50_max() in resnet_pf.py of naver-ai/PfLayer, commit
    # 008a096d81f504cc08a2c1f5fb5cdcfe866edccf: the sizes of all parameters, and the multiply-adds of an image
    # of 224 x 224, counted with the counter of this course
    for max_pool, parameters, operations in ((False, 25557032, 4089184256), (True, 14232232, 2239496192)):
        with torch.device("meta"):
            net, image = resnet50(max_pool).eval(), torch.empty(1, 3, 224, 224)
        assert count_parameters(net) == parameters
        assert count_operations(net, image).multiply_adds == operations
