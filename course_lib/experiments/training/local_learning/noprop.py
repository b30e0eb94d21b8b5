"""Trained claims of noprop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.experiments.training.local_learning._shared import (
    accuracy,
    flat_digits,
    learn,
    linear_probe,
)
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.local_learning import (
    AugLocal,
    DeepBeliefNetwork,
    ForwardForward,
    NoProp,
    SelfOrganizingMap,
    delta_rule,
)


class EndToEnd(nn.Module):
    """The chain of ``NoProp`` trained in the usual way: inference, cross-entropy, one backward pass.

    With ``aligned`` the head starts as a multiple of the identity, so that each entry of the last noisy label
    speaks for its own class; otherwise at random, as the head of ``NoProp`` does.
    """

    def __init__(self, chain: NoProp, lr: float, *, aligned: bool = True) -> None:
        super().__init__()
        self.chain = chain
        if aligned:
            nn.init.eye_(chain.head.weight).data.mul_(5)
            nn.init.zeros_(chain.head.bias)
        self.optimizer = torch.optim.AdamW(chain.parameters(), lr=lr, fused=True)

    def train_step(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """One update of everything."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.chain(x), y)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        """As the chain does it."""
        return self.chain.predict(x)


def dense_layer(in_features: int, out_features: int, stride: int) -> nn.Module:
    """A linear layer and a ReLU; the stride of convolutions means nothing here."""
    return nn.Sequential(nn.Linear(in_features, out_features), nn.ReLU())


def dense_network(num_layers: int, lr: float, *, depth: int = 0, num_modules: int | None = 1) -> AugLocal:
    """An MLP of width 64 for digits: by backpropagation, or, with more modules, layer by layer."""
    return AugLocal(
        dense_layer,
        64,
        [(64, 1)] * num_layers,
        10,
        auxiliary_depth=depth,
        num_modules=num_modules,
        make_optimizer=partial(torch.optim.AdamW, lr=lr, fused=True),
    )


CHAIN = "digits, ten blocks, 300 updates"


@experiment(
    paper="noprop",
    seeds=10,
    trained={name: lambda m: at_least(m["pixels"].mean) for name in ("noprop", "chain", "mlp")},
    claims=[
        question(
            "NoProp is at most three points behind the same chain, trained end to end",
            of=CHAIN,
            value=lambda m: m["chain"] - m["noprop"],
            expect=at_most(0.03),
        ),
        question(
            "NoProp is at most five points behind a perceptron with two hidden layers, by backpropagation",
            of=CHAIN,
            value=lambda m: m["mlp"] - m["noprop"],
            expect=at_most(0.05),
        ),
        question(
            "the nine blocks that follow add at least three points to the first one's accuracy",
            of=CHAIN,
            value=lambda m: m["noprop"] - m["block_01"],
            expect=at_least(0.03),
            verdict="not as expected",
        ),
        question(
            "end to end, a head that starts as the identity is better than one that starts at random",
            of=CHAIN,
            value=lambda m: m["chain"] - m["random_head"],
            expect=at_least(0.0),
        ),
        paper_claim(
            "NoProp needs less computing than other methods without backpropagation",
            where="abstract",
            not_tested="neither time nor memory is compared at equal accuracy",
        ),
    ],
)
def denoising_blocks(seed: int) -> dict[str, float]:
    """Ten blocks, 300 updates of 128 digits: trained apart, end to end, and a plain MLP beside them."""
    data = flat_digits()
    x, y = data["test"]
    result = {"pixels": accuracy(linear_probe(*data["train"], x), y)}
    arms = {
        "noprop": lambda: NoProp(64, 10, lr=1e-2),
        "chain": lambda: EndToEnd(NoProp(64, 10), 3e-3),
        "random_head": lambda: EndToEnd(NoProp(64, 10), 1e-2, aligned=False),
        "mlp": lambda: dense_network(2, 1e-2),
    }
    for name, build in arms.items():
        torch.manual_seed(seed)
        model = learn(build(), data["train"], steps=300, size=128, seed=seed)
        torch.manual_seed(seed)
        result[name] = accuracy(model.predict(x), y)
        if name == "noprop":
            for i, block in enumerate(model.read_out(x), 1):
                result[f"block_{i:02d}"] = accuracy(block, y)
    return result


DEPTHS = (2, 4)  # with eight, 250 updates leave most methods behind a linear classifier


NETWORKS: dict[str, Callable[[int], Any]] = {
    "backprop": partial(dense_network, lr=3e-3),
    "ff": lambda n: ForwardForward(64, [64] * n, 10, theta=20.0, lr=3e-3),
    # All layers share one threshold, so it grows with their number.
    "ff_all": lambda n: ForwardForward(64, [64] * n, 10, collaboration="all", theta=20.0 * n, lr=3e-3),
    "auglocal": lambda n: dense_network(n, 3e-3, depth=2, num_modules=n),
    "noprop": lambda n: NoProp(64, 10, num_steps=n, lr=1e-2),
}


@torch.no_grad()
def layer_accuracies(name: str, model: Any, data: dict[str, tuple[Tensor, Tensor]]) -> list[float]:
    """Test accuracy of what each layer by itself would answer."""
    (train, labels), (x, y) = data["train"], data["test"]
    if name != "backprop":
        return [accuracy(answers, y) for answers in model.read_out(x)]
    scores = []
    for layer in model.modules_in_order[0].layers:
        train, x = layer(train), layer(x)
        scores.append(accuracy(linear_probe(train, labels, x), y))
    return scores


def boltzmann_stack(data: dict[str, tuple[Tensor, Tensor]], *, num_layers: int, steps: int) -> float:
    """Test accuracy of a linear classifier on top of machines that never saw a label."""
    (train, labels), (x, y) = data["train"], data["test"]
    dbn = DeepBeliefNetwork([64] * (num_layers + 1), lr=0.05).pretrain(train, steps=steps, batch_size=64)
    return accuracy(linear_probe(dbn(train).detach(), labels, dbn(x).detach()), y)


def labelled_map(data: dict[str, tuple[Tensor, Tensor]], *, steps: int, size: int) -> float:
    """Test accuracy of a map of 64 units with a layer that learns by the delta rule."""
    (train, labels), (x, y) = data["train"], data["test"]
    som = SelfOrganizingMap(64, grid=(8, 8)).fit(train, steps=steps * size)
    spread = som(train).amin(-1).mean()

    def activity(v: Tensor) -> Tensor:
        distance = som(v)
        return F.normalize(torch.exp((distance.amin(-1, keepdim=True) - distance) / spread), dim=-1)

    weight, inputs, targets = torch.zeros(10, 64), activity(train), F.one_hot(labels, 10).float()
    for _ in range(steps):
        weight = delta_rule(weight, inputs, targets, 0.5)
    return accuracy((activity(x) @ weight.T).argmax(-1), y)


@experiment(
    paper=("noprop", "collaborative-forward-forward", "auglocal", "action-in-mind-som", "rbm-dbn-tutorial"),
    seeds=10,
    trained={
        f"{name}_{depth}": lambda m: at_least(m["pixels"].mean) for name in NETWORKS for depth in DEPTHS
    },
    claims=[
        paper_claim(
            "more accurate than another method without backpropagation: NoProp minus Forward-Forward",
            where="abstract",
            of="digits, four layers of 64, 250 updates",
            value=lambda m: m["noprop_4"] - m["ff_4"],
            expect=at_least(0.0),
            headline=True,
            scale="1197 digits of 8 by 8 pixels, blocks without convolutions; the paper: MNIST, CIFAR-10 and "
            "CIFAR-100.",
        ),
        paper_claim(
            "more accurate than another method without backpropagation: NoProp minus collaborative FF",
            where="abstract",
            of="digits, four layers of 64, 250 updates",
            value=lambda m: m["noprop_4"] - m["ff_all_4"],
            expect=at_least(0.0),
        ),
    ],
)
def one_task(seed: int) -> dict[str, float]:
    """Digits, width 64, 250 updates of 128: test accuracy of each method, at two depths, layer by layer."""
    data, options, result = flat_digits(), {"steps": 250, "size": 128, "seed": seed}, {}
    x, y = data["test"]
    result["pixels"] = accuracy(linear_probe(*data["train"], x), y)
    for name, build in NETWORKS.items():
        for depth in DEPTHS:
            torch.manual_seed(seed)
            model = learn(build(depth), data["train"], **options)
            torch.manual_seed(seed)
            result[f"{name}_{depth}"] = accuracy(model.predict(x), y)
            for i, score in enumerate(layer_accuracies(name, model, data), 1):
                result[f"{name}_{depth}_layer_{i}"] = score
    torch.manual_seed(seed)
    result["boltzmann_4"] = boltzmann_stack(data, num_layers=4, steps=300)
    result["boltzmann_1"] = boltzmann_stack(data, num_layers=1, steps=300)
    result["map_1"] = labelled_map(data, steps=300, size=64)
    return result
