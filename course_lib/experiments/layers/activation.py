"""The trained claims of layers/activation. Each function trains for one seed and returns a few numbers."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare.frames import Variant, compare, token_frame, vector_frame
from course_lib.data import load
from course_lib.data.dataset import Split
from course_lib.layers.activation import (
    ACTIVATIONS,
    PAU,
    PDELU,
    Activator,
    ActivatorBlock,
    BilinearMLP,
    KANLinear,
    SelectableKANLinear,
    TopKActivation,
    activation_sparsity,
    bilinear_eigenvectors,
    bilinear_tensor,
    prune_kan,
    quadratic_forms,
    selection_stage,
)
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import experiment
from course_lib.models.transformers import VisionTransformer
from course_lib.training.loop import evaluate, fit

__all__ = [
    "bilinear_digits",
    "depths",
    "function_fitting",
    "lazy_neurons",
    "patches_apart",
    "same_symbol",
    "side_by_side",
    "top_k_label_noise",
    "zoo",
]


# -- The zoo ---------------------------------------------------------------------------------------

RATES = (3e-3, 1e-2)


def plain_mlp(sizes: list[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Linear layers with the same function between them, no norm; biases start at zero."""
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (a, b) in enumerate(pairwise(sizes)):
        layers += [activation()] if i else []
        layers.append(nn.Linear(a, b))
        nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers)


@experiment(paper="activation-survey", seeds=3)
def zoo(seed: int) -> dict[str, float]:
    """Test accuracy on mnist1d: four hidden layers of 100, 200 steps, the better of two rates."""
    data, result = load("mnist1d"), {}
    for name, make in ACTIVATIONS.items():
        best = -1.0
        for rate in RATES:
            torch.manual_seed(seed)
            model = plain_mlp([40, 100, 100, 100, 100, 10], make)
            fit(model, data.train, steps=200, batch_size=64, lr=rate, seed=seed)
            valid = evaluate(model, data.validation)
            if valid > best:
                best, result[name] = valid, evaluate(model, data.test)
    worst = sorted(ACTIVATIONS, key=result.get)[:2]
    result["worst_two"] = float({*worst} == {"Sigmoid", "Elliott"})
    modern = [result[name] for name in ("ReLU", "ELU", "GELU", "Swish", "Mish")]
    result["modern_range"] = max(modern) - min(modern)
    kinked = [result[name] for name in ("ReLU", "LReLU", "PReLU", "ABReLU")]
    smooth = [result[name] for name in ("ELU", "CELU", "GELU", "Swish", "Mish", "Softplus")]
    result["kink_gain"] = min(kinked) - max(smooth)
    return result


EXPLORED = ("Sigmoid", "Tanh", "ReLU", "SELU", "GELU", "LiSHT")
DEPTHS = (2, 6, 12)


@experiment(paper="activation-survey", seeds=3)
def depths(seed: int) -> dict[str, float]:
    """Training loss on digits after 20, 40, ... 100 steps, for six functions in 2, 6 and 12 layers of 64."""
    digits, result = load("digits"), {}
    for name in EXPLORED:
        for depth in DEPTHS:
            torch.manual_seed(seed)
            model = plain_mlp([64] * (depth + 1) + [10], ACTIVATIONS[name])
            history = fit(model, digits.train, steps=100, batch_size=64, lr=3e-3, seed=seed)
            for step in range(20, 101, 20):
                result[f"{name}_{depth}_{step:03d}"] = sum(history.losses[step - 10 : step]) / 10
    return result


# -- Lazy neurons ----------------------------------------------------------------------------------


def share_active(model: nn.Module, x: Tensor) -> float:
    """Mean share of non-zero hidden outputs over the layers of a model."""
    found = activation_sparsity(model, x).values()
    return sum(found) / len(found)


def relu_vit(hidden_dim: int = 128) -> VisionTransformer:
    """Two transformer blocks with a ReLU, on the sixteen patches of a digit."""
    blocks = [TransformerBlock(32, 4, activation=nn.ReLU, hidden_dim=hidden_dim) for _ in range(2)]
    for block in blocks:
        nn.init.zeros_(block.mlp.sublayer[0].bias)
    return VisionTransformer((8, 8, 1), 2, 32, 10, blocks)


@experiment(paper="lazy-neuron", seeds=3)
def lazy_neurons(seed: int) -> dict[str, float]:
    """Share of active neurons on held-out inputs before and after 300 steps, in seven settings."""
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
        fit(model, train, steps=300, batch_size=64, lr=rate, optimizer=optimizer, seed=seed)
        result[f"{name}_end"] = share_active(model, held_out)
        result[f"{name}_drop"] = result[f"{name}_start"] - result[f"{name}_end"]
    result["wider_is_sparser"] = result["transformer_end"] - result["wide_end"]
    return result


@experiment(paper="lazy-neuron", seeds=5)
def top_k_label_noise(seed: int) -> dict[str, float]:
    """Clean test accuracy after 600 steps with 40 % random labels: ReLU, 16 of 256 active, 16 neurons."""
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
    result["gain"] = result["top_k"] - result["relu"]
    result["gain_over_narrow"] = result["top_k"] - result["narrow"]
    return result


# -- Bilinear layers -------------------------------------------------------------------------------


@experiment(paper="bilinear-layers", seeds=5)
def bilinear_digits(seed: int) -> dict[str, float]:
    """Test accuracy of a bilinear layer and a ReLU network of equal size; the same from few eigenvectors."""
    digits, result = load("digits"), {}
    models = {
        "relu": partial(plain_mlp, [64, 64, 10], nn.ReLU),
        "bilinear": partial(BilinearMLP, 64, 34, out_dim=10),
    }
    for name, make in models.items():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), make())
        fit(model, digits.train, steps=400, batch_size=64, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
    result["gap"] = result["relu"] - result["bilinear"]
    layer = model[1]
    values, vectors = bilinear_eigenvectors(bilinear_tensor(layer).detach())
    x = layer.augment(digits.test.x.flatten(1))
    for rank in (1, 2, 5, 10, 65):
        tensor = torch.einsum("or,ori,orj->oij", values[:, :rank], vectors[:, :rank], vectors[:, :rank])
        right = quadratic_forms(tensor, x).argmax(-1) == digits.test.y
        result[f"rank_{rank}"] = right.double().mean().item()
    result["loss_at_10"] = result["rank_65"] - result["rank_10"]
    return result


# -- Gates in the place of attention ---------------------------------------------------------------


class PairClassifier(nn.Module):
    """Two symbols, embedded; a block; the mean over the two; two logits."""

    def __init__(self, block: nn.Module, symbols: int, dim: int) -> None:
        super().__init__()
        self.embedding, self.block, self.out = nn.Embedding(symbols, dim), block, nn.Linear(dim, 2)

    def forward(self, pairs: Tensor) -> Tensor:
        return self.out(self.block(self.embedding(pairs)).mean(1))


def equal_pairs(generator: torch.Generator, *, symbols: int = 8, size: int = 64) -> tuple[Tensor, Tensor]:
    """Pairs of symbols, half of them equal; the label says which."""
    first, label = torch.randint(symbols, (size,), generator=generator), torch.arange(size) % 2
    other = (first + torch.randint(1, symbols, (size,), generator=generator)) % symbols
    return torch.stack([first, torch.where(label == 1, first, other)], dim=1), label


@torch.no_grad()
def balanced_accuracy(model: nn.Module, symbols: int = 8) -> float:
    """Mean of the accuracy on all equal and on all unequal pairs of symbols."""
    pairs = torch.cartesian_prod(torch.arange(symbols), torch.arange(symbols))
    equal = pairs[:, 0] == pairs[:, 1]
    right = (model(pairs).argmax(-1) == equal.long()).double()
    return ((right[equal].mean() + right[~equal].mean()) / 2).item()


@experiment(paper="activator-glu", seeds=3)
def same_symbol(seed: int) -> dict[str, float]:
    """Are two symbols equal? Balanced accuracy after 600 steps: a gate or attention of equal size."""
    result = {}
    blocks = {
        "activator": partial(ActivatorBlock, 16, 25),
        "attention": partial(TransformerBlock, 16, 2, hidden_dim=32),
    }
    for name, make in blocks.items():
        torch.manual_seed(seed)
        model = PairClassifier(make(), 8, 16)
        result[f"{name}_parameters"] = sum(p.numel() for p in model.parameters())
        fit(model, equal_pairs, steps=600, lr=3e-3, seed=seed)
        result[name] = balanced_accuracy(model)
    return result


@experiment(paper="activator-glu", seeds=3)
def patches_apart(seed: int) -> dict[str, float]:
    """Test accuracy on digits after 300 steps: Activator in three forms, and a transformer of equal size."""
    digits, result = load("digits"), {}

    def with_positions(block: Callable[[], nn.Module]) -> nn.Module:
        return VisionTransformer((8, 8, 1), 2, 32, 10, [block() for _ in range(2)])

    models = {
        "full": partial(Activator, (8, 8, 1), 2, 32, 64, 10, 2),
        "reduced": partial(Activator, (8, 8, 1), 2, 32, 107, 10, 2, full=False),
        "positions": partial(with_positions, partial(ActivatorBlock, 32, 64)),
        "transformer": partial(with_positions, partial(TransformerBlock, 32, 4, hidden_dim=96)),
    }
    for name, make in models.items():
        torch.manual_seed(seed)
        model = make()
        result[f"{name}_parameters"] = sum(p.numel() for p in model.parameters())
        fit(model, digits.train, steps=300, batch_size=64, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
    result["gap"] = result["transformer"] - result["full"]
    result["gap_with_positions"] = result["transformer"] - result["positions"]
    return result


# -- Learned functions on the edges ----------------------------------------------------------------

TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "polynomial": lambda x: 16 * x**5 - 20 * x**3 + 5 * x,
    "kink": torch.abs,
    "bump": lambda x: torch.exp(-200 * (x - 0.3).square()),
    "waves": lambda x: torch.sin(12 * torch.pi * x),
}
FAMILIES = ("bspline", "chebyshev", "rbf", "wavelet")


def kan(layer: Callable[..., nn.Module]) -> nn.Sequential:
    """One input in [-1, 1], five nodes, one output; twelve functions on every edge."""
    return nn.Sequential(layer(1, 5, num_basis=12, squash=False), layer(5, 1, num_basis=12))


@experiment(paper="s-kan", seeds=3)
def function_fitting(seed: int) -> dict[str, float]:
    """Error of each family and a selected mixture on four functions, after 400 full-batch steps of Adam."""
    x, between = torch.linspace(-1, 1, 257)[:, None], torch.linspace(-0.996, 0.996, 200)[:, None]
    result = {}
    for target, f in TARGETS.items():
        run = partial(fit, data=lambda _, f=f: (x, f(x)), lr=1e-2, loss=F.mse_loss, seed=seed)

        def error(model: nn.Module, f: Callable[[Tensor], Tensor] = f) -> float:
            with torch.no_grad():
                return F.mse_loss(model(between), f(between)).sqrt().item()

        for family in FAMILIES:
            torch.manual_seed(seed)
            model = kan(partial(KANLinear, family=family))
            run(model, steps=400)
            result[f"{target}_{family}"] = error(model)
        torch.manual_seed(seed)
        model = kan(SelectableKANLinear)
        run(selection_stage(model, "full"), steps=200)
        run(selection_stage(model, "selective"), steps=100)
        model = prune_kan(model)
        picked = [name for layer in model for name, columns in layer.columns.items() for _ in columns]
        run(model, steps=100)
        result[f"{target}_selected"] = error(model)
        winner = min(FAMILIES, key=lambda family, target=target: result[f"{target}_{family}"])
        best = result[f"{target}_{winner}"]
        result[f"{target}_picked_the_winner"] = picked.count(winner) / len(picked)
        for name in (*FAMILIES, "selected"):
            result[f"{target}_{name}_ratio"] = result[f"{target}_{name}"] / best
    for name in (*FAMILIES, "selected"):
        result[f"{name}_worst"] = max(result[f"{target}_{name}_ratio"] for target in TARGETS)
    result["safest_family_worst"] = min(result[f"{family}_worst"] for family in FAMILIES)
    return result


# -- Side by side ----------------------------------------------------------------------------------

FRAME = vector_frame(64, activation=nn.Identity)
TOKENS = token_frame(32, activation=nn.Identity)
SIDE_BY_SIDE = [
    Variant("ReLU", nn.ReLU, symbol="torch.nn.ReLU", properties=("baseline", "pointwise", "sparse", "fixed")),
    Variant("Sigmoid", nn.Sigmoid, symbol="torch.nn.Sigmoid", properties=("pointwise", "fixed")),
    Variant("GELU", nn.GELU, symbol="torch.nn.GELU", properties=("pointwise", "fixed")),
    Variant("PDELU", PDELU, symbol="PDELU", properties=("pointwise", "learned")),
    Variant("PAU", PAU, symbol="PAU", properties=("pointwise", "learned")),
    Variant(
        "top 8 of 64", partial(TopKActivation, 8), symbol="TopKActivation", properties=("sparse", "fixed")
    ),
    Variant(
        "bilinear", partial(BilinearMLP, 64, 32), symbol="BilinearMLP", properties=("learned", "quadratic")
    ),
    Variant(
        "KAN", partial(KANLinear, 64, 64, num_basis=5), symbol="KANLinear", properties=("learned", "global")
    ),
    Variant(
        "attention block",
        partial(TransformerBlock, 32, 4, hidden_dim=96),
        symbol="TransformerBlock",
        properties=("baseline", "mixes positions", "input dependent"),
        frame=TOKENS,
    ),
    Variant(
        "Activator block",
        partial(ActivatorBlock, 32, 64),
        symbol="ActivatorBlock",
        properties=("pointwise", "equivariant"),
        frame=TOKENS,
    ),
]


@experiment(
    paper=("activation-survey", "lazy-neuron", "bilinear-layers", "activator-glu", "s-kan"),
    seeds=3,
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
