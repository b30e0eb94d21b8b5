"""The trained claims of layers/structured. Each function trains for one seed and returns a few numbers."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare.frames import Variant, compare, vector_frame
from course_lib.data import Split, load
from course_lib.layers.norm import TransformerBlock
from course_lib.layers.structured import (
    BlockTensorTrainLinear,
    Decomposition,
    KroneckerLinear,
    LowRankLinear,
    MemoryFormerBlock,
    MemoryLinear,
    MonarchLinear,
    OrderedLowRankLinear,
    RandomPermutedMixerBlock,
    SNNKLinear,
    SparseDopedLinear,
    SparseParallelLinear,
    SparseWideLinear,
    cp_conv2d,
    mixed_decomposition_search,
    rigl_update_,
    sample_rank_,
    spectral_init_,
    svd_conv2d,
)
from course_lib.measure import experiment
from course_lib.models.transformers import GPT
from course_lib.training.loop import Run, cosine_schedule, evaluate, fit

# -- Low rank from the start -----------------------------------------------------------------------


def replace_linear_(module: nn.Module, build: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Put another layer in the place of every linear layer inside."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, build(child))
        else:
            replace_linear_(child, build)
    return module


def default_start_(layer: LowRankLinear) -> LowRankLinear:
    """Each factor as torch starts a linear layer: uniform, by its own fan-in."""
    nn.init.uniform_(layer.u, -(layer.rank**-0.5), layer.rank**-0.5)
    nn.init.uniform_(layer.v, -(layer.in_features**-0.5), layer.in_features**-0.5)
    return layer


STARTS: dict[str, Callable[[LowRankLinear], LowRankLinear]] = {
    "default": default_start_,
    "spectral": spectral_init_,
    "ones": partial(spectral_init_, ones=True),
}


@experiment(paper="low-rank-training", seeds=3)
def low_rank_starts(seed: int) -> dict[str, float]:
    """Validation loss of a character GPT with matrices of rank 16, from three starts, best of 3 rates."""
    text, result = load("english"), {}
    windows = text.validation.windows(32, limit=128)
    for name, start in STARTS.items():
        losses = []
        for lr in (1e-3, 3e-3, 1e-2):
            torch.manual_seed(seed)
            blocks = [TransformerBlock(64, 4, norm="pre", causal=True) for _ in range(2)]
            model = GPT(text.vocab_size, 64, blocks, max_length=32)
            replace_linear_(
                model.blocks,
                lambda old, start=start: start(LowRankLinear(old.in_features, old.out_features, 16)),
            )
            batch = partial(text.batch, batch_size=16, length=32)
            fit(model, batch, steps=200, lr=lr, clip=1.0, schedule=cosine_schedule(warmup=20), seed=seed)
            losses.append(evaluate(model, windows, metric="loss"))
        result[name], result[f"{name}_rate"] = min(losses), (1e-3, 3e-3, 1e-2)[losses.index(min(losses))]
    result["gap"] = result["default"] - result["spectral"]
    result["ones_gap"] = result["ones"] - result["spectral"]
    return result


# -- Low rank, learned -----------------------------------------------------------------------------


def factorise(
    matrix: Tensor, target: Tensor, *, ordered: bool, start: str, seed: int
) -> OrderedLowRankLinear:
    """Fit target = matrix W^T by 2000 steps of Adam; with ordered, a new rank is drawn before every step."""
    torch.manual_seed(seed)
    layer = OrderedLowRankLinear(matrix.shape[1], target.shape[1], bias=False)  # starts from an SVD
    if start == "random":
        default_start_(layer)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    draws = torch.Generator().manual_seed(seed)
    for step in range(2000):
        if ordered:
            sample_rank_([layer], draws)
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 2000)
        loss = (layer(matrix) - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    layer.active_rank = None
    return layer


def cut_errors(layer: LowRankLinear, matrix: Tensor, target: Tensor, columns: int) -> list[float]:
    """Error of the first 1, 2, ... columns, divided by that of the best matrix of this rank."""
    best = torch.linalg.svdvals(target.double()).square().flip(0).cumsum(0).flip(0).sqrt()
    kept = [layer.u[:, :b] @ layer.v[:, :b].mT for b in range(1, columns + 1)]
    return [((matrix @ w.mT - target).norm() / best[b]).item() for b, w in enumerate(kept, 1)]


def largest_angle(a: Tensor, b: Tensor) -> float:
    """The largest principal angle between the spans of the columns of two matrices, in degrees."""
    p, q = (torch.linalg.qr(m.detach().double())[0] for m in (a, b))
    return math.degrees(math.acos(min(1.0, torch.linalg.svdvals(p.mT @ q).min().item())))


@experiment(paper="maestro", seeds=10)
def ordered_columns(seed: int) -> dict[str, float]:
    """How near ordered training comes to the SVD and to the principal components, from two starts."""
    # A generator of its own: the global one, seeded alike, would draw the same matrix for the SVD start.
    p, _, q = torch.linalg.svd(torch.randn(20, 20, generator=torch.Generator().manual_seed(1000 + seed)))
    linear = q.mT @ torch.diag(0.8 ** torch.arange(20)) @ p.mT  # the transpose of A, as rows are samples
    x = load("digits").train.x.flatten(1)
    x = x - x.mean(0)
    # A root of the covariance has the same loss as all the images, at a twentieth of the price.
    _, values, directions = torch.linalg.svd(x / len(x) ** 0.5, full_matrices=False)
    digits = directions.mT @ torch.diag(values) @ directions
    result = {}
    for start in ("SVD", "random"):
        for kind in ("ordered", "plain"):
            layer = factorise(torch.eye(20), linear, ordered=kind == "ordered", start=start, seed=seed)
            errors = cut_errors(layer, torch.eye(20), linear, 15)
            result |= {f"{kind}_{start}_{b}": error for b, error in enumerate(errors, 1)}
            result[f"{kind}_{start}_largest"] = max(errors[:10])
        layer = factorise(digits, digits, ordered=True, start=start, seed=seed)
        angles = [largest_angle(layer.u[:, :b], directions[:b].mT) for b in range(1, 6)]
        result |= {f"angle_{start}_{b}": angle for b, angle in enumerate(angles, 1)}
        result[f"angle_{start}_largest"] = max(angles)
        result[f"digits_{start}_largest"] = max(cut_errors(layer, digits, digits, 5))
    return result


# -- Wide and sparse, tokens and channels shuffled away --------------------------------------------


class FrozenEnds(nn.Module):
    """A fixed random map to the block's width, the block, and a fixed random read-out."""

    def __init__(self, block: RandomPermutedMixerBlock) -> None:
        super().__init__()
        width = block.tokens * block.channels
        self.register_buffer("first", torch.randn(width, 64) / 8)
        self.register_buffer("last", 10 * torch.randn(10, width) / width**0.5)
        self.block = block
        for layer in (block.mix_tokens, block.mix_channels):
            layer.bias.requires_grad_(False)  # 2 m of them: they would grow with the width

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(self.block(F.linear(images.flatten(1), self.first)), self.last)


@experiment(paper="mixer-as-sparse-mlp", seeds=5)
def mixer_width(seed: int) -> dict[str, float]:
    """Test accuracy on digits with about 510 trained weights, spread over widths 88, 200 and 256."""
    digits, result = load("digits"), {}
    for tokens, channels, permutation in (
        (22, 4, "random"),
        (20, 10, "random"),
        (16, 16, "random"),
        (16, 16, "transpose"),
    ):
        torch.manual_seed(seed)
        model = FrozenEnds(RandomPermutedMixerBlock(tokens, channels, permutation=permutation))
        fit(model, digits.train, steps=600, lr=1e-2, schedule=cosine_schedule(), seed=seed)
        name = f"{tokens * channels}" + ("_transpose" if permutation == "transpose" else "")
        result[name] = evaluate(model, digits.test)
        result[f"{name}_weights"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    result["width_gain"] = result["256"] - result["88"]
    result["first_gain"] = result["200"] - result["88"]
    result["shuffle_gain"] = result["256"] - result["256_transpose"]
    return result


# -- Sparse, equal multiplications -----------------------------------------------------------------


def sparse_layers(model: nn.Module) -> list[nn.Module]:
    """All layers with a mask."""
    return [m for m in model.modules() if hasattr(m, "mask")]


def dense_gradients(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Gradients by the masked weights at all places: masks are filled with ones for one backward pass."""
    layers = sparse_layers(model)
    masks = [layer.mask.clone() for layer in layers]
    with torch.no_grad():
        for layer, mask in zip(layers, masks, strict=True):
            layer.dense_weight.mul_(mask)
            layer.mask.fill_(True)
    loss = F.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, [layer.dense_weight for layer in layers])
    for layer, mask in zip(layers, masks, strict=True):
        layer.mask.copy_(mask)
    return list(gradients)


def rigl(data: Split, steps: int, every: int = 50, share: float = 0.3) -> Callable:
    """A hook for ``fit``: move masks every so often, by a share that decays to zero at three quarters."""

    def update(run: Run) -> None:
        step, model = run.step, run.model
        progress = step / (0.75 * steps)
        if step % every or progress >= 1:
            return
        rows = torch.randint(len(data.x), (256,), generator=torch.Generator().manual_seed(step))
        moving = share / 2 * (1 + math.cos(math.pi * progress))
        gradients = dense_gradients(model, data.x[rows], data.y[rows])
        for layer, gradient in zip(sparse_layers(model), gradients, strict=True):
            rigl_update_(layer, gradient, moving)

    return update


def plain_mlp(hidden: int) -> nn.Module:
    """40 inputs, two hidden layers, 10 classes."""
    sizes = ((40, hidden), (hidden, hidden), (hidden, 10))
    first, second, last = (nn.Linear(i, o) for i, o in sizes)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), last)


def wide_mlp(sparsity: float) -> nn.Module:
    """The same network of hidden width 64, every layer wide and sparse, with as many active weights."""
    return nn.Sequential(
        nn.Flatten(),
        SparseWideLinear(40, 64, sparsity, widen_in=False),
        nn.ReLU(),
        SparseWideLinear(64, 64, sparsity),
        nn.ReLU(),
        SparseWideLinear(64, 10, sparsity, widen_out=False),
    )


def parallel_mlp(sparsity: float) -> nn.Module:
    """The same with sparse branches, except for the read-out."""
    hidden = (SparseParallelLinear(i, 64, sparsity) for i in (40, 64))
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


@experiment(paper="sparse-ift", seeds=5)
def wider_and_sparser(seed: int) -> dict[str, float]:
    """Test accuracy on MNIST-1D of networks with equally many active weights, masks fixed or moving."""
    data, steps, result = load("mnist1d"), 800, {}
    arms: dict[str, tuple[Callable[[], nn.Module], bool]] = {
        "dense": (partial(plain_mlp, 64), False),
        "dense twice as wide": (partial(plain_mlp, 128), False),
        "parallel 75": (partial(parallel_mlp, 0.75), True),
    }
    for sparsity in (0.5, 0.75, 0.9):
        for kind, moving in (("fixed", False), ("moving", True)):
            arms[f"wide {sparsity:.0%} {kind}"] = (partial(wide_mlp, sparsity), moving)
    for name, (build, moving) in arms.items():
        torch.manual_seed(seed)
        model = build()
        hooks = [rigl(data.train, steps)] if moving else []
        fit(model, data.train, steps=steps, batch_size=64, lr=3e-3, seed=seed, hooks=hooks)
        result[name] = evaluate(model, data.test)
    moving = {s: result[f"wide {s:.0%} moving"] for s in (0.5, 0.75, 0.9)}
    fixed = {s: result[f"wide {s:.0%} fixed"] for s in (0.5, 0.75, 0.9)}
    result["gain"] = sum(moving.values()) / 3 - result["dense"]
    result["parallel_gain"] = result["parallel 75"] - result["dense"]
    result["moving_gain"] = sum(moving.values()) / 3 - sum(fixed.values()) / 3
    return result


# -- Tables in place of matrices -------------------------------------------------------------------


@torch.no_grad()
def used_rows(model: GPT, tokens: Tensor) -> float:
    """Share of all table rows that are read at least once on these tokens."""
    read: dict[MemoryLinear, Tensor] = {}

    def watch(module: MemoryLinear, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        rows, _ = module.address(arguments[0])
        read[module] = F.one_hot(rows.flatten(0, -2), 2**module.bits).sum(0) > 0

    memories = [m for m in model.modules() if isinstance(m, MemoryLinear)]
    hooks = [m.register_forward_hook(watch) for m in memories]
    model(tokens)
    for hook in hooks:
        hook.remove()
    return torch.cat([seen.flatten() for seen in read.values()]).float().mean().item()


@experiment(paper="memoryformer", seeds=3)
def memory_gpt(seed: int) -> dict[str, float]:
    """Validation loss of a character GPT with linear layers, with tables, and with frozen random tables."""
    text, result = load("english"), {}
    windows = text.validation.windows(32, limit=128)
    for name in ("linear", "memory", "frozen"):
        torch.manual_seed(seed)
        if name == "linear":
            blocks = [TransformerBlock(32, 2, norm="pre", causal=True) for _ in range(2)]
        else:
            blocks = [MemoryFormerBlock(32, 2, bits=4, causal=True) for _ in range(2)]
        model = GPT(text.vocab_size, 32, blocks, max_length=32)
        if name == "frozen":
            for memory in (m for m in model.modules() if isinstance(m, MemoryLinear)):
                memory.tables.requires_grad_(False)
        batch = partial(text.batch, batch_size=16, length=32)
        fit(model, batch, steps=500, lr=5e-3, clip=1.0, schedule=cosine_schedule(warmup=20), seed=seed)
        result[name] = evaluate(model, windows, metric="loss")
        if name == "memory":
            result["used_rows"] = used_rows(model, windows.x)
    result["gap"] = result["memory"] - result["linear"]
    result["learned_gain"] = result["frozen"] - result["memory"]
    return result


# -- A decomposition for every layer ---------------------------------------------------------------


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


@experiment(paper="mixed-td", seeds=3)
def compressed_cnn(seed: int) -> dict[str, float]:
    """Test accuracy of a trained CNN after its convolutions are taken apart, without any fine-tuning."""
    digits, result = load("digits"), {}
    torch.manual_seed(seed)
    model = small_cnn()
    fit(model, digits.train, steps=300, lr=3e-3, seed=seed)
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
        result[f"gain_{percent}"] = result[f"mixed_{percent}"] - max(
            result[f"SVD_{percent}"], result[f"CP_{percent}"]
        )
    return result


# -- Side by side ----------------------------------------------------------------------------------

FRAME = vector_frame(width=64)
SIDE_BY_SIDE = [
    Variant("dense", lambda: nn.Linear(64, 64), symbol="torch.nn.Linear", properties=("baseline",)),
    Variant(
        "low rank 8",
        lambda: LowRankLinear(64, 64, 8),
        symbol="LowRankLinear",
        properties=("structured", "low rank", "few parameters"),
    ),
    Variant(
        "Kronecker 8 x 8",
        lambda: KroneckerLinear((8, 8), (8, 8)),
        symbol="KroneckerLinear",
        properties=("structured", "few parameters"),
    ),
    Variant(
        "Monarch 8 x 8",
        lambda: MonarchLinear((8, 8), (8, 8)),
        symbol="MonarchLinear",
        properties=("structured", "few parameters"),
    ),
    Variant(
        "Block Tensor-Train, rank 2",
        lambda: BlockTensorTrainLinear((8, 8), (8, 8), 2),
        symbol="BlockTensorTrainLinear",
        properties=("structured", "few parameters"),
    ),
    Variant(
        "random-permuted mixer 8 x 8",
        lambda: RandomPermutedMixerBlock(8, 8),
        symbol="RandomPermutedMixerBlock",
        properties=("structured", "sparse", "few parameters"),
    ),
    Variant(
        "wide and sparse, 75 %",
        lambda: SparseWideLinear(64, 64, 0.75, widen_in=False),
        symbol="SparseWideLinear",
        properties=("sparse",),
    ),
    Variant(
        "doped, 75 %",
        lambda: SparseDopedLinear(64, 64, 0.75),
        symbol="SparseDopedLinear",
        properties=("sparse", "low rank"),
    ),
    Variant(
        "memory, 8 bits",
        lambda: MemoryLinear(64, 64, bits=8),
        symbol="MemoryLinear",
        properties=("input dependent", "local"),
    ),
    Variant(
        "kernel features, 16",
        lambda: SNNKLinear(64, 64, 16),
        symbol="SNNKLinear",
        properties=("structured", "few parameters"),
    ),
]


@experiment(
    paper=(
        "block-tensor-train",
        "low-rank-training",
        "mixer-as-sparse-mlp",
        "sparse-ift",
        "memoryformer",
        "snnk",
    ),
    seeds=3,
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
