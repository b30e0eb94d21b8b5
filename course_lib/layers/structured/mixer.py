"""Mixing tokens or channels, read as one wide and sparse matrix; and the same with the structure shuffled
away.

Convention: X has S rows (tokens) and C columns (channels), and vec(X) stacks the *columns*, as in the
paper, so that vec(W X V) = (V' kron W) vec(X). In torch that is ``X.mT.flatten()``.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_callable, require_one_of, require_positive, require_width
from course_lib.registry import implements


@implements("mixer-as-sparse-mlp")
def commutation_matrix(rows: int, columns: int) -> Float[Tensor, "m m"]:
    r"""The permutation that transposes a matrix whose columns are stacked.

    .. math:: J \operatorname{vec}(X) = \operatorname{vec}(X^\top)

    Args:
        rows: rows of X.
        columns: columns of X.

    Raises:
        ValueError: for a size below 1.

    Paper: MLP-Mixer as a Wide and Sparse MLP - https://arxiv.org/abs/2306.01470

    >>> x = torch.tensor([[1.0, 2.0, 3.0]])
    >>> commutation_matrix(1, 3) @ x.mT.flatten()
    tensor([1., 2., 3.])
    """
    return torch.eye(rows * columns)[_transposition(rows, columns)]


def _transposition(rows: int, columns: int) -> Int[Tensor, "m"]:
    """Index form of the commutation matrix: vec(X') = vec(X)[index]."""
    require_positive("commutation_matrix", rows=rows, columns=columns)
    return torch.arange(rows * columns).reshape(columns, rows).mT.flatten()


@implements("mixer-as-sparse-mlp")
def mixing_matrix(weight: Float[Tensor, "o i"], copies: int, *, mixes: str) -> Float[Tensor, "m n"]:
    r"""The wide sparse matrix that a mixing layer applies to vec(X).

    .. math:: \operatorname{vec}(W X) = (I_C \otimes W) \operatorname{vec}(X), \qquad
        \operatorname{vec}(X W^\top) = (W \otimes I_S) \operatorname{vec}(X)

    Args:
        weight: W, applied to every column of X (tokens) or to every row (channels).
        copies: how often it is applied: the number of channels C or of tokens S.
        mixes: ``"tokens"`` for :math:`W X`, ``"channels"`` for :math:`X W^\top`.

    Raises:
        ValueError: for another word than those two, or fewer than one copy.

    Paper: MLP-Mixer as a Wide and Sparse MLP - https://arxiv.org/abs/2306.01470

    >>> mixing_matrix(torch.tensor([[5.0, 6.0]]), 2, mixes="tokens")
    tensor([[5., 6., 0., 0.],
            [0., 0., 5., 6.]])
    """
    require_one_of("mixing_matrix", ("tokens", "channels"), mixes=mixes)
    require_positive("mixing_matrix", copies=copies)
    identity = torch.eye(copies).to(weight)
    return torch.kron(identity, weight) if mixes == "tokens" else torch.kron(weight, identity)


@implements(
    "mixer-as-sparse-mlp",
    example=lambda: (
        PermutedKroneckerLinear(3, 4, permute_in=torch.randperm(12, device="cpu")),
        torch.randn(2, 5, 12),
    ),
    permutation_equivariant=True,
)
class PermutedKroneckerLinear(nn.Module):
    r"""One small matrix used many times inside a wide sparse one, between two fixed permutations.

    .. math:: y = J_2\, (I_n \otimes W)\, J_1\, x + b, \qquad W \in \mathbb R^{s \times s}

    Width :math:`m = n s`, density 1 / n, and only :math:`s^2` weights. With the identity for both
    permutations it mixes tokens; with the commutation matrix and its inverse it mixes channels.

    Args:
        block_dim: side s of W.
        copies: how often n the matrix is used.
        permute_in: :math:`J_1` as an index, ``x[permute_in]``; None for the identity.
        permute_out: :math:`J_2` as an index; None for the identity.
        bias: add a learned bias, one per entry of the output.
        device: of parameters and indices.
        dtype: of the parameters.

    Shape: ``(*b, m)`` to ``(*b, m)``.

    Raises:
        ValueError: for sizes below 1, an index that is no permutation, or an input of the wrong width.
        TypeError: for an index that is no tensor of integers, or an input of another type than the
            parameters.

    Paper: MLP-Mixer as a Wide and Sparse MLP - https://arxiv.org/abs/2306.01470

    Differs from a Monarch matrix: there the n blocks are different matrices.

    >>> layer = PermutedKroneckerLinear(2, 3, bias=False)
    >>> layer.weight.shape, (layer.weight != 0).sum().item(), sum(p.numel() for p in layer.parameters())
    (torch.Size([6, 6]), 12, 4)
    """

    def __init__(
        self,
        block_dim: int,
        copies: int,
        *,
        permute_in: Int[Tensor, "m"] | None = None,
        permute_out: Int[Tensor, "m"] | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, block_dim=block_dim, copies=copies)
        self.block_dim, self.copies, self.dim = block_dim, copies, block_dim * copies
        self._start = {
            "permute_in": _permutation(name, self.dim, permute_in=permute_in),
            "permute_out": _permutation(name, self.dim, permute_out=permute_out),
        }
        for index in self._start:
            self.register_buffer(index, torch.empty(self.dim, dtype=torch.long, device=device))
        self.block = nn.Parameter(torch.empty(block_dim, block_dim, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.dim, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The block normal with variance 1 / s, the bias zero, the permutations as they were given."""
        for index, start in self._start.items():
            self.get_buffer(index).copy_(torch.tensor(start))
        nn.init.normal_(self.block, std=self.block_dim**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def weight(self) -> Float[Tensor, "m m"]:
        """The wide sparse matrix, formed when asked for."""
        inverse = self.permute_in.argsort()
        return mixing_matrix(self.block, self.copies, mixes="tokens")[self.permute_out][:, inverse]

    def forward(self, x: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
        require_width(x, self.dim, self)
        blocks = x[..., self.permute_in].unflatten(-1, (self.copies, self.block_dim))
        y = F.linear(blocks, self.block).flatten(-2)[..., self.permute_out]
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.block_dim}, {self.copies}, bias={self.bias is not None}"


def _permutation(layer: str, dim: int, **given: Int[Tensor, "m"] | None) -> list[int]:
    """The index as Python's numbers, which stay when buffers are made anew; None is the identity."""
    ((name, index),) = given.items()
    if index is None:
        return list(range(dim))
    if not isinstance(index, Tensor) or index.dtype != torch.long:
        seen = index.dtype if isinstance(index, Tensor) else repr(index)
        raise TypeError(f"{layer}: {name} must be a tensor of torch.int64, got {seen}")
    if sorted(index.tolist()) != list(range(dim)):
        raise ValueError(f"{layer}: {name} must hold each of 0..{dim - 1} once, got {len(index)} entries")
    return index.tolist()


@implements(
    "mixer-as-sparse-mlp",
    example=lambda: (RandomPermutedMixerBlock(3, 4), torch.randn(2, 5, 12)),
    permutation_equivariant=True,
)
class RandomPermutedMixerBlock(nn.Module):
    r"""A Mixer block on stacked columns, with a random permutation where the transpose stood.

    .. math:: y = \phi\bigl(J^\top (I_S \otimes V) J\, \phi((I_C \otimes W) x)\bigr), \qquad
        W \in \mathbb R^{S \times S}, \quad V \in \mathbb R^{C \times C}

    With ``permutation="transpose"`` J is the commutation matrix, and the block mixes tokens, then channels.
    With ``"random"`` no two tokens and no two channels mean anything: an MLP of width S C with two sparse
    matrices.

    Args:
        tokens: S.
        channels: C.
        permutation: ``"random"`` or ``"transpose"``.
        activation: builds :math:`\phi`.
        device: of parameters and indices.
        dtype: of the parameters.

    Shape: ``(*b, m)`` to ``(*b, m)`` with m = S C.

    Raises:
        ValueError: for sizes below 1, an unknown permutation, or an input of the wrong width.
        TypeError: for an activation that cannot be called, or an input of another type than the parameters.

    Paper: MLP-Mixer as a Wide and Sparse MLP - https://arxiv.org/abs/2306.01470

    Differs from MLP-Mixer: no expansion of the hidden width, no norm, no skip connection: what remains is
    what the claim is about.

    >>> block = RandomPermutedMixerBlock(3, 4)
    >>> block(torch.randn(2, 12)).shape, block.weights
    (torch.Size([2, 12]), 25)
    """

    def __init__(
        self,
        tokens: int,
        channels: int,
        *,
        permutation: str = "random",
        activation: Callable[[], nn.Module] = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, tokens=tokens, channels=channels)
        require_one_of(name, ("random", "transpose"), permutation=permutation)
        require_callable(name, activation=activation)
        factory = {"device": device, "dtype": dtype}
        self.tokens, self.channels, self.permutation = tokens, channels, permutation
        self.dim = tokens * channels
        order = (
            torch.randperm(self.dim, device="cpu")
            if permutation == "random"
            else _transposition(tokens, channels)
        )
        self.mix_tokens = PermutedKroneckerLinear(tokens, channels, **factory)
        self.mix_channels = PermutedKroneckerLinear(
            channels, tokens, permute_in=order, permute_out=order.argsort(), **factory
        )
        self.activation = activation()

    @property
    def weights(self) -> int:
        """Independent weights of the two matrices: S^2 + C^2."""
        return self.tokens**2 + self.channels**2

    def forward(self, x: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
        require_width(x, self.dim, self)
        return self.activation(self.mix_channels(self.activation(self.mix_tokens(x))))

    def extra_repr(self) -> str:
        return f"{self.tokens}, {self.channels}, permutation={self.permutation!r}"
