"""How many neurons fire before and after training, and what happens when few may."""

from functools import partial

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.data.dataset import Split
from course_lib.experiments.layers.activation._shared import plain_mlp
from course_lib.layers.activation import TopKActivation, activation_sparsity
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import at_least, at_most, between, experiment, paper_claim, question
from course_lib.models.transformers import VisionTransformer
from course_lib.training.loop import evaluate, fit
from course_lib.training.validation import LINEAR_DIGITS


def share_active(model: nn.Module, x: Tensor) -> float:
    """Mean share of non-zero hidden outputs over the layers of a model."""
    found = activation_sparsity(model, x).values()
    return sum(found) / len(found)


def relu_vit(hidden_dim: int = 128) -> VisionTransformer:
    """Two transformer blocks with a ReLU, on the sixteen patches of a digit."""
    blocks = [TransformerBlock(32, 4, activation=nn.ReLU, hidden_dim=hidden_dim) for _ in range(2)]
    for block in blocks:
        nn.init.zeros_(block.mlp.mixer[0].bias)
    return VisionTransformer(1, 10, image_size=(8, 8), patch=2, dim=32, blocks=blocks)


PLACE = "two transformer blocks on digits, 500 steps"


@experiment(
    paper="lazy-neuron",
    seeds=10,
    trained={"*_accuracy": at_least(LINEAR_DIGITS), "*_fit": at_least(0.15)},  # guessing has 0.1
    claims=[
        paper_claim(
            "after training very few entries of the activation maps are nonzero: share",
            of=PLACE,
            where="abstract",
            headline=True,
            scale="two blocks of width 32, 500 steps; the paper: T5-Base with 3.0 and ViT-B16 with 6.3 "
            "per cent",
            value=lambda m: m["transformer_end"],
            expect=at_most(0.1),
            verdict="not reproduced",
        ),
        paper_claim(
            "sparsity emerges in training: fall of the share that is active",
            of=PLACE,
            where="abstract",
            value=lambda m: m["transformer_start"] - m["transformer_end"],
            expect=at_least(0.02),
        ),
        paper_claim(
            "it emerges with random labels: fall of the share that is active",
            of=PLACE,
            where="abstract",
            value=lambda m: m["shuffled_start"] - m["shuffled_end"],
            expect=at_least(0.02),
        ),
        paper_claim(
            "it emerges with random inputs: fall of the share that is active",
            of=PLACE,
            where="abstract",
            value=lambda m: m["noise_start"] - m["noise_end"],
            expect=at_least(0.02),
        ),
        paper_claim(
            "wider hidden layers are sparser: share that is active, less that of one four times as wide",
            of=PLACE,
            where="abstract",
            value=lambda m: m["transformer_end"] - m["wide_end"],
            expect=at_least(0.0),
            verdict="not tested",  # the wide one does not beat a linear map on every seed
        ),
        paper_claim(
            "it emerges in two-layer MLPs: fall of the share that is active",
            of="256 neurons on digits, Adam, 500 steps",
            where="abstract",
            value=lambda m: m["mlp_start"] - m["mlp_end"],
            expect=at_least(0.0),
            verdict="not reproduced",
        ),
        question(
            "one half is active at the start",
            of="two-layer MLP of 256 neurons, centred pixels",
            value=lambda m: m["mlp_centred_start"],
            expect=between(0.47, 0.53),
        ),
        question(
            "with centred pixels the share of active neurons of a two-layer MLP stays at one half",
            of="256 neurons on digits, Adam, 500 steps",
            value=lambda m: m["mlp_centred_end"],
            expect=between(0.47, 0.53),
        ),
    ],
)
def lazy_neurons(seed: int) -> dict[str, float]:
    """Who fires before and after 500 steps, in seven settings.

    Returns:
        ``{setting}_start`` and ``{setting}_end``: share of non-zero hidden outputs on held-out inputs;
        ``{setting}_accuracy``: on the test set (a share); for random labels and random inputs
        ``{setting}_fit``, on the training set.
    """
    digits, generator, result = load("digits"), torch.Generator().manual_seed(seed), {}
    (x, y), test = digits.train, digits.test.x
    shuffled = Split(x, y[torch.randperm(len(y), generator=generator)])
    noise = torch.randn(len(x) + len(test), 1, 8, 8, generator=generator)
    mean, deviation = x.mean(0), x.std(0) + 0.1
    mlp = partial(plain_mlp, [64, 256, 10], nn.ReLU)
    sgd = partial(torch.optim.SGD, momentum=0.9)
    settings = {
        "transformer": (relu_vit, Split(x, y), test, None, 3e-3),
        "shuffled": (relu_vit, shuffled, test, None, 3e-3),
        "noise": (relu_vit, Split(noise[: len(x)], shuffled.y), noise[len(x) :], None, 3e-3),
        "wide": (partial(relu_vit, 512), Split(x, y), test, None, 3e-3),
        "mlp": (mlp, Split(x, y), test, None, 3e-3),
        "mlp_sgd": (mlp, Split(x, y), test, sgd, 3e-2),
        "mlp_centred": (mlp, Split((x - mean) / deviation, y), (test - mean) / deviation, None, 3e-3),
    }
    for name, (make, train, held_out, optimizer, rate) in settings.items():
        torch.manual_seed(seed)
        model = make()
        result[f"{name}_start"] = share_active(model, held_out)
        fit(model, train, steps=500, batch_size=64, lr=rate, optimizer=optimizer, seed=seed)
        result[f"{name}_end"] = share_active(model, held_out)
        if name in ("shuffled", "noise"):
            result[f"{name}_fit"] = evaluate(model, train)
        else:
            result[f"{name}_accuracy"] = evaluate(model, Split(held_out, digits.test.y))
    return result


@experiment(
    paper="lazy-neuron",
    seeds=5,
    # Least squares on the noisy labels has 0.8625 to 0.8925; every arm is above it on its own seed.
    trained={name: at_least(0.8625) for name in ("relu", "top_k", "narrow")},
    claims=[
        paper_claim(
            "top-k is less sensitive to noisy training data: clean accuracy, top 16 of 256 minus ReLU",
            of="two-layer MLP on digits, 40 % of the labels random, 600 steps",
            where="abstract",
            value=lambda m: m["top_k"] - m["relu"],
            expect=at_least(0.0),
            verdict="inconclusive",
        ),
        question(
            "top-k is more than a small layer: clean accuracy, top 16 of 256 minus 16 neurons",
            of="two-layer MLP on digits, 40 % of the labels random, 600 steps",
            value=lambda m: m["top_k"] - m["narrow"],
            expect=at_least(0.0),
            verdict="not as expected",
        ),
        paper_claim(
            "top-k is more robust to corrupted inputs and better calibrated",
            where="abstract",
            not_tested="not tried here",
        ),
    ],
)
def top_k_label_noise(seed: int) -> dict[str, float]:
    """600 steps with 40 % random labels: a ReLU layer of 256, of which 16 may be active, or of 16.

    Returns:
        ``relu``, ``top_k``, ``narrow``: accuracy (a share) on clean test labels.
    """
    digits, generator, result = load("digits"), torch.Generator().manual_seed(seed), {}
    x, y = digits.train
    wrong = torch.rand(len(y), generator=generator) < 0.4
    noisy = torch.where(wrong, torch.randint(10, y.shape, generator=generator), y)
    arms = {
        "relu": ([64, 256, 10], nn.ReLU),
        "top_k": ([64, 256, 10], partial(TopKActivation, 16)),
        "narrow": ([64, 16, 10], nn.ReLU),
    }
    for name, (sizes, activation) in arms.items():
        torch.manual_seed(seed)
        model = plain_mlp(sizes, activation)
        fit(model, Split(x, noisy), steps=600, batch_size=64, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
    return result
