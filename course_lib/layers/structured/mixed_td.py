"""A trained convolution as a chain of cheaper ones: by SVD, by CP, and a choice of its own per layer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._half import wide
from course_lib.layers._shapes import require_at_least, require_number, require_one_of, require_positive
from course_lib.registry import implements

UNFOLDINGS = ("filters", "separable", "channels")


def cp_tensor(factors: Sequence[Float[Tensor, "_ r"]]) -> Tensor:
    r"""The tensor of a CP decomposition: a sum of r outer products.

    .. math:: T_{abc\dots} = \sum_{s=1}^{r} A_{as} B_{bs} C_{cs} \cdots

    >>> cp_tensor([torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])])
    tensor([[3., 4.],
            [6., 8.]])
    """
    letters = "abcdefgh"[: len(factors)]
    return torch.einsum(",".join(f"{letter}z" for letter in letters) + "->" + letters, *factors)


@implements("mixed-td")
@torch.no_grad()
def cp_als(tensor: Tensor, rank: int, *, steps: int = 100, ridge: float = 1e-6) -> list[Float[Tensor, "_ r"]]:
    r"""CP decomposition by alternating least squares: solve for one factor while the others stand still.

    .. math:: A \leftarrow T_{(1)} (B \star C \star \cdots)\,
        \bigl(B^\top B \odot C^\top C \odot \cdots + \rho I\bigr)^{-1}

    :math:`\star` is the column-wise Kronecker product. It starts from the leading singular vectors of every
    unfolding (random columns beyond their number) and keeps all columns of equal length over the factors.

    Args:
        tensor: of any order from 2.
        rank: number of outer products.
        steps: sweeps over all factors.
        ridge: :math:`\rho`, relative to the mean of the diagonal; it keeps opposite columns from growing.

    Raises:
        ValueError: for a rank below 1, a negative number of steps or ridge, or a tensor of fewer than two
            axes.

    Paper: Mixed-TD: Efficient Neural Network Accelerator with Layer-Specific Tensor Decomposition -
    https://arxiv.org/abs/2306.05021

    Differs from the authors' code, which calls a tensor library: the ridge, the equal lengths, normal columns
    beyond the singular vectors (there uniform ones), and a number of sweeps in place of a tolerance.

    >>> t = cp_tensor([torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])])
    >>> torch.allclose(cp_tensor(cp_als(t, 1)), t, atol=1e-4)
    True
    """
    require_positive("cp_als", rank=rank)
    require_at_least(0, "cp_als", steps=steps)
    require_number("cp_als", 0, ridge=ridge)
    if tensor.ndim < 2:
        raise ValueError(f"cp_als: a tensor of two axes or more is needed, got shape {tuple(tensor.shape)}")
    dtype, tensor = tensor.dtype, wide(tensor)
    generator = torch.Generator().manual_seed(0)
    unfoldings = [tensor.movedim(axis, 0).flatten(1) for axis in range(tensor.ndim)]
    factors = []
    for unfolding in unfoldings:
        u = torch.linalg.svd(unfolding, full_matrices=False)[0][:, :rank]
        extra = torch.randn(len(unfolding), rank - u.shape[1], generator=generator).to(tensor)
        factors.append(torch.cat([u, extra / math.sqrt(len(unfolding))], dim=1))
    for _ in range(steps):
        for axis, unfolding in enumerate(unfoldings):
            others = [f for other, f in enumerate(factors) if other != axis]
            gram = math.prod(f.mT @ f for f in others)
            gram = gram + ridge * gram.diagonal().mean() * torch.eye(rank).to(gram)
            product = rearrange(cp_tensor([*others, torch.eye(rank).to(tensor)]), "... r -> (...) r")
            factors[axis] = torch.linalg.solve(gram, (unfolding @ product).mT).mT
            if axis < tensor.ndim - 1:  # unit columns; the last factor holds all of the length
                factors[axis] = nn.functional.normalize(factors[axis], dim=0)
    lengths = factors[-1].norm(dim=0).clamp(min=1e-30)
    factors[-1] = factors[-1] / lengths
    return [(f * lengths ** (1 / tensor.ndim)).to(dtype) for f in factors]


@implements("mixed-td")
@torch.no_grad()
def svd_conv2d(conv: nn.Conv2d, rank: int, *, unfolding: str = "separable", groups: int = 1) -> nn.Sequential:
    r"""Two convolutions in place of one, from the truncated SVD of the kernel, unfolded in one of three ways.

    ============  ==================================  ==================================
    unfolding     matrix                              chain
    ============  ==================================  ==================================
    "filters"     :math:`F \times (C k k)`            k x k to r, then 1 x 1
    "separable"   :math:`(F k) \times (C k)`          1 x k to r, then k x 1
    "channels"    :math:`(F k k) \times C`            1 x 1 to r, then k x k
    ============  ==================================  ==================================

    Both factors get the root of the singular values. The stride stands where it saves most: in the first
    convolution that looks along the strided axis.

    Args:
        conv: the trained layer, with one group.
        rank: channels r between the two, per group.
        unfolding: see the table.
        groups: cut the input channels into so many parts, with an SVD of their own; for "channels", the
            filters.

    Raises:
        ValueError: for an unknown unfolding, groups that do not divide, a layer that is grouped or padded in
            another way than with zeros, or a rank beyond the matrix.

    Paper: Mixed-TD: Efficient Neural Network Accelerator with Layer-Specific Tensor Decomposition -
    https://arxiv.org/abs/2306.05021

    Differs from the authors' code: groups of "separable" are added; a dilation is kept (there it is lost).

    >>> chain = svd_conv2d(nn.Conv2d(8, 8, 3, padding=1), 4)
    >>> [tuple(layer.weight.shape) for layer in chain]
    [(4, 8, 1, 3), (8, 4, 3, 1)]
    """
    _require_plain(conv)
    require_one_of("svd_conv2d", UNFOLDINGS, unfolding=unfolding)
    require_positive("svd_conv2d", rank=rank, groups=groups)
    what = "filters" if unfolding == "channels" else "input channels"
    size = conv.out_channels if unfolding == "channels" else conv.in_channels
    if size % groups:
        raise ValueError(f"svd_conv2d: groups must divide the {size} {what}, got {groups}")
    left_axes, right_axes, first_sees, second_sees = {
        "filters": ("f", "c y x", (True, True), (False, False)),
        "separable": ("f y", "c x", (False, True), (True, False)),
        "channels": ("f y x", "c", (False, False), (True, True)),
    }[unfolding]
    parts = "(g f) c y x" if unfolding == "channels" else "f (g c) y x"
    kernel = rearrange(conv.weight, f"{parts} -> g ({left_axes}) ({right_axes})", g=groups)
    if rank > min(kernel.shape[1:]):
        raise ValueError(f"svd_conv2d: rank must be at most {min(kernel.shape[1:])} here, got {rank}")
    u, s, vh = torch.linalg.svd(wide(kernel), full_matrices=False)
    root = s[:, :rank].sqrt()
    sizes = dict(zip("yx", conv.kernel_size, strict=True))
    first_groups, second_groups = (1, groups) if unfolding == "channels" else (groups, 1)
    first = rearrange(
        vh[:, :rank] * root[..., None],
        f"g r ({right_axes}) -> (g r) c {'y' if first_sees[0] else '1'} {'x' if first_sees[1] else '1'}",
        c=conv.in_channels // first_groups,
        **{k: v for k, v in sizes.items() if k in right_axes},
    )
    filters = "(g f) r" if unfolding == "channels" else "f (g r)"
    second = rearrange(
        u[..., :rank] * root[:, None],
        f"g ({left_axes}) r -> {filters} {'y' if second_sees[0] else '1'} {'x' if second_sees[1] else '1'}",
        f=conv.out_channels // second_groups,
        **{k: v for k, v in sizes.items() if k in left_axes},
    )
    return nn.Sequential(
        _conv(first, conv, first_sees, groups=first_groups),
        _conv(second, conv, second_sees, groups=second_groups, bias=conv.bias),
    )


@implements("mixed-td")
@torch.no_grad()
def cp_conv2d(conv: nn.Conv2d, rank: int, *, steps: int = 100) -> nn.Sequential:
    r"""Four thin convolutions in place of one, from a CP decomposition of the kernel.

    .. math:: K_{fcyx} \approx \sum_{s=1}^{r} A_{fs} B_{cs} Y_{ys} X_{xs}

    1 x 1 to r channels, k x 1 and 1 x k on every channel alone, 1 x 1 to the filters.

    Args:
        conv: the trained layer, with one group.
        rank: channels r in between.
        steps: sweeps of :func:`cp_als`.

    Raises:
        ValueError: for a layer that is grouped or padded in another way than with zeros.

    Paper: Mixed-TD: Efficient Neural Network Accelerator with Layer-Specific Tensor Decomposition -
    https://arxiv.org/abs/2306.05021

    >>> chain = cp_conv2d(nn.Conv2d(8, 8, 3, padding=1), 5)
    >>> [tuple(layer.weight.shape) for layer in chain]
    [(5, 8, 1, 1), (5, 1, 3, 1), (5, 1, 1, 3), (8, 5, 1, 1)]
    """
    _require_plain(conv)
    a, b, y, x = cp_als(conv.weight.detach(), rank, steps=steps)
    return nn.Sequential(
        _conv(b.mT[:, :, None, None], conv, (False, False)),
        _conv(y.mT[:, None, :, None], conv, (True, False), groups=rank),
        _conv(x.mT[:, None, None, :], conv, (False, True), groups=rank),
        _conv(a[:, :, None, None], conv, (False, False), bias=conv.bias),
    )


def _require_plain(conv: nn.Conv2d) -> None:
    if conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise ValueError(
            "only convolutions with one group and zero padding given as numbers are taken apart, got "
            f"groups={conv.groups}, padding={conv.padding!r}, padding_mode={conv.padding_mode!r}"
        )


def _conv(
    kernel: Tensor, like: nn.Conv2d, sees: tuple[bool, bool], *, groups: int = 1, bias: Tensor | None = None
) -> nn.Conv2d:
    """One link of a chain; along an axis that it does not see it has neither stride nor padding."""

    def along(values: tuple[int, ...], otherwise: int) -> tuple[int, ...]:
        return tuple(v if seen else otherwise for v, seen in zip(values, sees, strict=True))

    link = nn.Conv2d(
        kernel.shape[1] * groups,
        kernel.shape[0],
        tuple(kernel.shape[2:]),
        stride=along(like.stride, 1),
        padding=along(like.padding, 0),
        dilation=along(like.dilation, 1),
        groups=groups,
        bias=bias is not None,
    ).to(like.weight)
    link.weight.data.copy_(kernel)
    if bias is not None:
        link.bias.data.copy_(bias)
    return link


@torch.no_grad()
def chain_kernel(chain: nn.Sequential) -> Float[Tensor, "o c i j"]:
    """The one kernel that a chain of convolutions without stride applies.

    >>> conv = nn.Conv2d(3, 4, 3)
    >>> torch.allclose(chain_kernel(svd_conv2d(conv, 9)), conv.weight, atol=1e-5)
    True
    """
    c, device = chain[0].in_channels, chain[0].weight.device
    height, width = (sum(link.kernel_size[axis] - 1 for link in chain) + 1 for axis in (0, 1))
    x = torch.zeros(c, c, 2 * height - 1, 2 * width - 1, dtype=chain[0].weight.dtype, device=device)
    x[range(c), range(c), height - 1, width - 1] = (
        1  # one image per input channel, with a single bright pixel
    )
    for link in chain:
        x = nn.functional.conv2d(x, link.weight, groups=link.groups)
    return x.transpose(0, 1).flip(2, 3)  # convolution in torch is correlation


@dataclass(frozen=True)
class Decomposition:
    """One way to write a layer: what it is called, what it costs and how wrong it is.

    Attributes:
        method: ``"svd"``, ``"cp"`` or ``"dense"``, say; the search does not read it.
        parameters: what the budget counts.
        error: what the search adds up; smaller is better.
        module: takes the layer's place.
    """

    method: str
    parameters: int
    error: float
    module: nn.Module | None = None


@implements("mixed-td")
def mixed_decomposition_search(
    candidates: Mapping[str, Sequence[Decomposition]], budget: int
) -> dict[str, Decomposition]:
    r"""One candidate for each layer, so that the errors add up to the least within the budget.

    .. math:: \min \sum_l \mathrm{error}_l(m_l) \quad\text{with}\quad \sum_l \mathrm{parameters}_l(m_l) \le B

    Exact: layer by layer, keep every sum of parameters that no other sum beats on both counts.

    Args:
        candidates: for each layer its candidates; the more kinds, the better the best.
        budget: B.

    Raises:
        ValueError: if even the smallest candidates exceed the budget.

    Paper: Mixed-TD: Efficient Neural Network Accelerator with Layer-Specific Tensor Decomposition -
    https://arxiv.org/abs/2306.05021

    Differs from the paper: an exact search over a sum of errors under a budget of parameters. The authors'
    code searches by evolution, scores a whole network by its accuracy on held-out images and by the latency
    of the accelerator, which a random forest predicts, and lets a layer stay as it is. Here latency is
    :func:`pipelined_latency`, outside the search.

    >>> small, large = Decomposition("cp", 10, 0.5), Decomposition("svd", 30, 0.1)
    >>> chosen = mixed_decomposition_search({"a": [small, large], "b": [small, large]}, 45)
    >>> sorted(choice.method for choice in chosen.values())
    ['cp', 'svd']
    """
    front: list[tuple[int, float, tuple[Decomposition, ...]]] = [(0, 0.0, ())]
    for options in candidates.values():
        sums = sorted(
            (
                (size + option.parameters, error + option.error, (*chosen, option))
                for size, error, chosen in front
                for option in options
                if size + option.parameters <= budget
            ),
            key=lambda row: row[:2],
        )
        front, best = [], math.inf
        for row in sums:
            if row[1] < best:
                front.append(row)
                best = row[1]
    if not front:
        least = sum(min(option.parameters for option in options) for options in candidates.values())
        raise ValueError(
            f"mixed_decomposition_search: the smallest candidates need {least} parameters, the budget is "
            f"{budget}"
        )
    return dict(zip(candidates, front[-1][2], strict=True))


@implements("mixed-td")
def pipelined_latency(work: Sequence[int], units: int) -> float:
    r"""Time per image of an accelerator that gives every layer units of its own and works on all at once.

    .. math:: \min_{u_1 + \dots + u_L \le U}\; \max_l \frac{\mathrm{work}_l}{u_l}

    The next unit always goes to the slowest layer, which is optimal here.

    Args:
        work: multiplications of every layer.
        units: multipliers U to share out.

    Raises:
        ValueError: with fewer units than layers, or no layer.

    Paper: Mixed-TD: Efficient Neural Network Accelerator with Layer-Specific Tensor Decomposition -
    https://arxiv.org/abs/2306.05021

    >>> pipelined_latency([100, 300], 4)
    100.0
    """
    require_positive("pipelined_latency", units=units)
    if not work or units < len(work):
        raise ValueError(f"pipelined_latency: {len(work)} layers need a unit each, got {units}")
    share = [1] * len(work)
    for _ in range(units - len(work)):
        slowest = max(range(len(work)), key=lambda layer: work[layer] / share[layer])
        share[slowest] += 1
    return max(w / u for w, u in zip(work, share, strict=True))
