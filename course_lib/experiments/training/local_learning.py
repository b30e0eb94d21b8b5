"""The trained claims of training/local_learning. Each function trains for one seed, returns a few numbers."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.mnist1d import make_mnist1d
from course_lib.data.synthetic import bars_and_stripes
from course_lib.measure import experiment
from course_lib.training.local_learning import (
    RBM,
    AugLocal,
    DeepBeliefNetwork,
    ForwardForward,
    GrowingGrid,
    HierarchicalSOM,
    NoProp,
    ResidualBlock1d,
    SelfOrganizingMap,
    contrastive_divergence_step,
    delta_rule,
    log_likelihood,
    ordered_vector,
    padded_vector,
)

__all__ = [
    "actions_at_other_speeds",
    "auxiliary_networks",
    "denoising_blocks",
    "exact_likelihood",
    "few_labels",
    "layer_collaboration",
    "one_task",
]


def flat_digits() -> dict[str, tuple[Tensor, Tensor]]:
    """The digits as vectors of 64 pixels, by split."""
    return {name: (split.x.flatten(1), split.y) for name, split in load("digits").splits.items()}


def batches(data: tuple[Tensor, Tensor], steps: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches that go through the data in a fresh order every time."""
    generator, order = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.long)
    x, y = data
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(len(x), generator=generator)
        rows, order = order[:size], order[size:]
        yield x[rows], y[rows]


def learn(model: Any, data: tuple[Tensor, Tensor], *, steps: int, size: int = 64, seed: int) -> Any:
    """The one loop of the chapter: ``train_step`` on batch after batch."""
    for x, y in batches(data, steps, size, seed):
        model.train_step(x, y)
    return model


def accuracy(answers: Tensor, y: Tensor) -> float:
    """Share of right answers."""
    return (answers == y).double().mean().item()


def best_on_validation(
    builders: Sequence[Callable[[], Any]], data: dict[str, tuple[Tensor, Tensor]], **options: Any
) -> tuple[int, Any]:
    """Train one model per setting; the number of the one with the best validation accuracy, and the model."""
    models, scores = [], []
    for build in builders:
        torch.manual_seed(options["seed"])
        models.append(learn(build(), data["train"], **options))
        x, y = data["validation"]
        scores.append(accuracy(models[-1].predict(x), y))
    best = scores.index(max(scores))
    return best, models[best]


# -- Self-organising maps --------------------------------------------------------------------------

SPEEDS = {"known": (0.8, 1.2), "slow": (0.4, 0.6), "fast": (1.7, 2.5), "mixed": (0.4, 2.5)}
POINTS = 38  # frames of the slowest movement of the training set


def action_recogniser(kind: str) -> HierarchicalSOM:
    """Two maps of at most 64 units and an output layer for six actions."""
    if kind == "growing":
        maps = GrowingGrid(10), GrowingGrid(2 * POINTS)
    else:
        maps = SelfOrganizingMap(8, 8, 10), SelfOrganizingMap(8, 8, 2 * POINTS)
    to_vector = padded_vector if kind == "padded" else ordered_vector
    return HierarchicalSOM(*maps, 6, num_points=POINTS, to_vector=to_vector)


def sequences(split: Any) -> list[Tensor]:
    """The movements without their padding, each posture a vector of ten numbers."""
    return [frames[:length].flatten(1) for frames, length in zip(split.x, split.lengths, strict=True)]


@experiment(paper="action-in-mind-som", seeds=5)
def actions_at_other_speeds(seed: int) -> dict[str, float]:
    """Six actions learnt at speeds 0.8 to 1.2: test accuracy there and at other speeds, three pipelines."""
    tests = {
        name: load("stick_figure_actions", n=300, test_speed=speed, seed=seed)
        for name, speed in SPEEDS.items()
    }
    train, result = tests["known"].train, {}
    for kind in ("ordered", "padded", "growing"):
        torch.manual_seed(seed)
        model = action_recogniser(kind).fit_maps(sequences(train), steps=6000)
        model.fit_output(sequences(train), train.y, steps=60)
        for name, data in tests.items():
            result[f"{kind}_{name}"] = accuracy(model.predict(sequences(data.test)), data.test.y)
        for name in ("slow", "fast", "mixed"):
            result[f"{kind}_{name}_loss"] = result[f"{kind}_known"] - result[f"{kind}_{name}"]
    return result


# -- Boltzmann machines ----------------------------------------------------------------------------


def cosine_with_exact_gradient(rbm: RBM, data: Tensor) -> float:
    """Between the direction of CD-1, averaged over 50 chains for each data vector, and the exact gradient."""
    parameters = (rbm.weight, rbm.visible_bias, rbm.hidden_bias)
    exact = torch.autograd.grad(log_likelihood(rbm, data), parameters)
    estimate = contrastive_divergence_step(rbm, data.repeat(50, 1))
    ours, theirs = (torch.cat([part.flatten() for part in parts]) for parts in (estimate, exact))
    return F.cosine_similarity(ours, theirs, dim=0).item()


@experiment(paper="rbm-dbn-tutorial", seeds=10)
def exact_likelihood(seed: int) -> dict[str, float]:
    """CD-1 on bars and stripes, with and without momentum: exact log-likelihood, error, gradient's angle."""
    patterns, result = bars_and_stripes(3), {}
    for name, last in (("momentum", 10000), ("plain", 4000)):
        torch.manual_seed(seed)
        rbm = RBM(9, 8, lr=0.05, momentum=0.0, weight_decay=0.0)
        rbm.reset_parameters(patterns)
        cosines, errors = [], []
        for step in range(last + 1):
            if name == "momentum":
                rbm.momentum = 0.5 if step < 200 else 0.9
            if step % 500 == 0:
                with torch.no_grad():
                    result[f"{name}_{step:05d}"] = log_likelihood(rbm, patterns).item()
            if step % 100 == 0:
                cosines.append(cosine_with_exact_gradient(rbm, patterns))
            errors.append(
                rbm.train_step(patterns[torch.randint(len(patterns), (32,))])["reconstruction_error"]
            )
        for step in (1000, last):
            result[f"{name}_error_{step:05d}"] = sum(errors[step - 200 : step]) / 200
        result[f"{name}_cosine_early"] = sum(cosines[:10]) / 10
        result[f"{name}_cosine_late"] = sum(cosines[-20:]) / 20
    result["late_change"] = result["momentum_10000"] - result["momentum_02000"]
    return result


@experiment(paper="rbm-dbn-tutorial", seeds=5)
def few_labels(seed: int) -> dict[str, float]:
    """Logistic regression on 50 labelled digits: raw pixels against two layers of unsupervised features."""
    data = flat_digits()
    torch.manual_seed(seed)
    dbn = DeepBeliefNetwork([64, 100, 100], lr=0.05).pretrain(data["train"][0], steps=2000)
    rows = load("digits").train[:50]  # five of each class
    few, labels = rows.x.flatten(1), rows.y
    test, answers = data["test"]
    views = {
        name: (a, b)
        for name, a, b in zip(
            ("raw", "layer_1", "layer_2"),
            [few, *dbn.features(few)],
            [test, *dbn.features(test)],
            strict=True,
        )
    }
    result = {}
    for name, (a, b) in views.items():
        read_out = LogisticRegression(max_iter=1000).fit(a.numpy(), labels.numpy())
        result[name] = accuracy(torch.from_numpy(read_out.predict(b.numpy())), answers)
    result["gain"] = result["layer_2"] - result["raw"]
    return result


# -- Forward-Forward -------------------------------------------------------------------------------

THETAS = (2.0, 4.0, 8.0)


@experiment(paper="collaborative-forward-forward", seeds=5)
def layer_collaboration(seed: int) -> dict[str, float]:
    """Three layers of 128, 15 epochs: test error of the first layer, of all together, of each alone."""
    data, result = flat_digits(), {}
    x, y = data["test"]
    for kind in ("none", "earlier", "all"):
        builders = [
            partial(ForwardForward, 64, [128] * 3, 10, collaboration=kind, theta=theta, lr=1e-2)
            for theta in THETAS
        ]
        best, model = best_on_validation(builders, data, steps=15 * (1197 // 64), seed=seed)
        result[f"{kind}_theta"] = THETAS[best]
        for i, answers in enumerate(model.read_out(x), 1):
            result[f"{kind}_layer_{i}"] = 1 - accuracy(answers, y)
        result[f"{kind}_error"] = 1 - accuracy(model.predict(x), y)
        result[f"{kind}_marginal"] = result[f"{kind}_layer_1"] - result[f"{kind}_error"]
    result["gain"] = result["none_error"] - result["all_error"]
    return result


# -- Auxiliary networks ----------------------------------------------------------------------------

PLAN = [(16, 2)] + [(16, 1)] * 9  # channels and stride of ten residual blocks
AUXILIARY = {"backprop": (0, 1), "linear": (0, None), "depth_1": (1, None), "depth_3": (3, None)}


@experiment(paper="auglocal", seeds=4)
def auxiliary_networks(seed: int) -> dict[str, float]:
    """Ten residual blocks on 1500 signals of 80 points, 8 epochs: test accuracy for four kinds of judge."""
    x, y = make_mnist1d(2500, length=80, seed=seed)
    train, test, result = (x[:1500], y[:1500]), (x[1500:], y[1500:]), {}
    for name, (depth, modules) in AUXILIARY.items():
        torch.manual_seed(seed)
        make_optimizer = partial(torch.optim.Adam, lr=3e-3)
        model = AugLocal(
            ResidualBlock1d, 1, PLAN, 10, depth=depth, num_modules=modules, make_optimizer=make_optimizer
        )
        learn(model, train, steps=8 * (1500 // 64), seed=seed)
        result[name] = accuracy(model.predict(test[0]), test[1])
    result["gain_1"] = result["depth_1"] - result["linear"]
    result["gain_3"] = result["depth_3"] - result["linear"]
    result["deeper"] = result["depth_3"] - result["depth_1"]
    result["gap"] = result["backprop"] - result["depth_3"]
    result["share_closed"] = result["gain_3"] / (result["backprop"] - result["linear"])
    return result


# -- Denoising blocks ------------------------------------------------------------------------------


class EndToEnd(nn.Module):
    """The chain of ``NoProp`` trained in the usual way: inference, cross-entropy, one backward pass."""

    def __init__(self, chain: NoProp, lr: float) -> None:
        super().__init__()
        self.chain = chain
        self.optimizer = torch.optim.AdamW(chain.parameters(), lr=lr)

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


def dense_layer(in_dim: int, out_dim: int, stride: int) -> nn.Module:
    """A linear layer and a ReLU; the stride of convolutions means nothing here."""
    return nn.Sequential(nn.Linear(in_dim, out_dim), nn.ReLU())


def dense_network(num_layers: int, lr: float, *, depth: int = 0, num_modules: int | None = 1) -> AugLocal:
    """An MLP of width 64 for digits: by backpropagation, or, with more modules, layer by layer."""
    return AugLocal(
        dense_layer,
        64,
        [(64, 1)] * num_layers,
        10,
        depth=depth,
        num_modules=num_modules,
        make_optimizer=partial(torch.optim.AdamW, lr=lr),
    )


@experiment(paper="noprop", seeds=3)
def denoising_blocks(seed: int) -> dict[str, float]:
    """Ten blocks, 600 updates of 128 digits: trained apart, end to end, and a plain MLP beside them."""
    data, rates, result = flat_digits(), (1e-2, 3e-2), {}
    x, y = data["test"]
    arms = {
        "noprop": [partial(NoProp, 64, 10, lr=lr) for lr in rates],
        "chain": [partial(lambda lr: EndToEnd(NoProp(64, 10), lr), lr) for lr in rates],
        "mlp": [partial(dense_network, 2, lr) for lr in rates],
    }
    for name, builders in arms.items():
        best, model = best_on_validation(builders, data, steps=600, size=128, seed=seed)
        result[f"{name}_rate"] = rates[best]
        torch.manual_seed(seed)
        result[name] = accuracy(model.predict(x), y)
        if name == "noprop":
            for i, answers in enumerate(model.read_out(x), 1):
                result[f"block_{i:02d}"] = accuracy(answers, y)
    result["behind_chain"] = result["chain"] - result["noprop"]
    result["behind_mlp"] = result["mlp"] - result["noprop"]
    result["chain_gain"] = result["noprop"] - result["block_01"]
    return result


# -- All on one task -------------------------------------------------------------------------------

DEPTHS = (2, 4, 8)
NETWORKS: dict[str, list[Callable[[int], Any]]] = {
    "backprop": [partial(dense_network, lr=lr) for lr in (3e-3, 1e-2)],
    "ff": [
        partial(lambda theta, n: ForwardForward(64, [64] * n, 10, theta=theta, lr=1e-2), theta)
        for theta in (2.0, 4.0)
    ],
    "ff_all": [
        partial(
            lambda theta, n: ForwardForward(64, [64] * n, 10, collaboration="all", theta=theta, lr=1e-2),
            theta,
        )
        for theta in (2.0, 4.0)
    ],
    "auglocal": [partial(dense_network, lr=lr, depth=2, num_modules=None) for lr in (3e-3, 1e-2)],
    "noprop": [partial(lambda lr, n: NoProp(64, 10, num_steps=n, lr=lr), lr) for lr in (3e-3, 1e-2)],
}


def linear_probe(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    """Answers of a linear classifier by least squares: what a layer without a head of its own knows."""

    def with_one(h: Tensor) -> Tensor:
        return torch.cat([h, h.new_ones(len(h), 1)], dim=1).double()

    a = with_one(train)
    ridge = 1e-2 * torch.eye(a.shape[1], dtype=a.dtype)
    weights = torch.linalg.solve(a.T @ a + ridge, a.T @ F.one_hot(labels, 10).double())
    return (with_one(test) @ weights).argmax(-1)


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
    som = SelfOrganizingMap(8, 8, 64).fit(train, steps=steps * size)
    spread = som(train).amin(-1).mean()

    def activity(v: Tensor) -> Tensor:
        distance = som(v)
        return F.normalize(torch.exp((distance.amin(-1, keepdim=True) - distance) / spread), dim=-1)

    weight, targets = torch.zeros(10, 64), F.one_hot(labels, 10).float()
    for _ in range(steps):
        weight = delta_rule(weight, activity(train), targets, 0.5)
    return accuracy((activity(x) @ weight.T).argmax(-1), y)


@experiment(
    paper=("noprop", "collaborative-forward-forward", "auglocal", "action-in-mind-som", "rbm-dbn-tutorial"),
    seeds=3,
)
def one_task(seed: int) -> dict[str, float]:
    """Digits, width 64, 300 updates of 64: test accuracy of every method, at three depths, layer by layer.

    Each method picks one of two settings on the validation set, with four layers.
    """
    data, options, result = flat_digits(), {"steps": 300, "seed": seed}, {}
    x, y = data["test"]
    for name, settings in NETWORKS.items():
        builders = [partial(build, 4) for build in settings]
        best, model = best_on_validation(builders, data, **options)
        result[f"{name}_setting"] = best
        for depth in DEPTHS:
            torch.manual_seed(seed)
            here = model if depth == 4 else learn(settings[best](depth), data["train"], **options)
            torch.manual_seed(seed)
            result[f"{name}_{depth}"] = accuracy(here.predict(x), y)
            for i, score in enumerate(layer_accuracies(name, here, data), 1):
                result[f"{name}_{depth}_layer_{i}"] = score
    torch.manual_seed(seed)
    result["boltzmann_8"] = boltzmann_stack(data, num_layers=8, steps=300)
    result["boltzmann_1"] = boltzmann_stack(data, num_layers=1, steps=300)
    result["map_1"] = labelled_map(data, steps=300, size=64)
    result["noprop_over_ff_all"] = result["noprop_8"] - result["ff_all_8"]
    return result
