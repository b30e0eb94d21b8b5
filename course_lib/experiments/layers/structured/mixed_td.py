"""Trained claims of mixed-td."""

import torch
from torch import nn

from course_lib.data import Split, load
from course_lib.layers.structured import (
    Decomposition,
    cp_conv2d,
    mixed_decomposition_search,
    svd_conv2d,
)
from course_lib.measure import at_least, experiment, paper_claim
from course_lib.training.loop import cosine_schedule, evaluate, fit


def small_cnn() -> nn.Sequential:
    """Three convolutions, the last with stride 2, then the mean and ten outputs."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def with_replaced(model: nn.Sequential, modules: dict[str, nn.Module]) -> nn.Sequential:
    """The same network with some layers exchanged; the rest is shared."""
    return nn.Sequential(*(modules.get(name, layer) for name, layer in model.named_children()))


def taken_apart(model: nn.Sequential, name: str, validation: Split) -> list[Decomposition]:
    """All chains for one convolution, each with the validation loss of the network that uses it."""
    conv = model.get_submodule(name)
    f, c = conv.weight.shape[:2]
    chains: list[tuple[str, nn.Module]] = []
    for unfolding, full in (
        ("filters", min(f, 9 * c)),
        ("separable", 3 * min(f, c)),
        ("channels", min(f, c)),
    ):
        for share in (0.1, 0.2, 0.3, 0.45, 0.6):
            rank = max(1, round(share * full))
            chains.append((f"SVD {unfolding}", svd_conv2d(conv, rank, unfolding=unfolding)))
    for rank in (2, 4, 8, 14, 22, 32, 48, 64):
        chains.append(("CP", cp_conv2d(conv, rank, steps=30)))
    return [
        Decomposition(
            method,
            sum(p.numel() for p in chain.parameters()),
            evaluate(with_replaced(model, {name: chain}), validation, metric="loss"),
            chain,
        )
        for method, chain in chains
    ]


# Logistic regression on the pixels, scikit-learn's default, on the same 400 test images.
LINEAR = 0.9625


@experiment(
    paper="mixed-td",
    seeds=10,
    trained={"dense": at_least(LINEAR)},
    claims=[
        paper_claim(
            "1.73 to 10.29 times the throughput of the best accelerators per multiplier of the chip",
            where="abstract",
            headline=True,
            not_tested="a property of hardware; none is built or modelled here beyond pipelined_latency",
        ),
        paper_claim(
            "SVD and CP mixed layer by layer lose less accuracy than SVD alone (gain in accuracy)",
            where="abstract",
            of="CNN on digits cut to 25 % of its parameters, no fine-tuning",
            value=lambda m: m["mixed_25"] - m["SVD_25"] + 0 * m["dense"],
            expect=at_least(0.0),
            verdict="not tested",
        ),
        paper_claim(
            "SVD and CP mixed layer by layer lose less accuracy than CP alone (gain in accuracy)",
            where="abstract",
            of="CNN on digits cut to 25 % of its parameters, no fine-tuning",
            value=lambda m: m["mixed_25"] - m["CP_25"] + 0 * m["dense"],
            expect=at_least(0.0),
            verdict="not tested",
        ),
    ],
)
def compressed_cnn(seed: int) -> dict[str, float]:
    """Test accuracy of a trained CNN after its convolutions are taken apart, without any fine-tuning."""
    digits, result = load("digits"), {}
    torch.manual_seed(seed)
    model = small_cnn()
    fit(model, digits.train, steps=900, lr=3e-3, schedule=cosine_schedule(), seed=seed)
    result["dense"] = evaluate(model, digits.test)
    names = ("2", "4", "6")
    candidates = {name: taken_apart(model, name, digits.validation) for name in names}
    dense = sum(p.numel() for name in names for p in model.get_submodule(name).parameters())
    for percent in (60, 40, 25):
        for kind in ("mixed", "SVD", "CP"):
            allowed = {
                name: [c for c in choices if kind == "mixed" or c.method.startswith(kind)]
                for name, choices in candidates.items()
            }
            chosen = mixed_decomposition_search(allowed, dense * percent // 100)
            compressed = with_replaced(model, {name: choice.module for name, choice in chosen.items()})
            result[f"{kind}_{percent}"] = evaluate(compressed, digits.test)
            result[f"{kind}_{percent}_proxy"] = sum(choice.error for choice in chosen.values())
            if kind == "mixed":
                result[f"cp_layers_{percent}"] = sum(choice.method == "CP" for choice in chosen.values())
    return result
