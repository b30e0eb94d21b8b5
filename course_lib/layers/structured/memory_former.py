"""A linear layer without multiplications by weights: hash the input, fetch rows of tables, add them up."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_divides,
    require_number,
    require_positive,
    require_tokens,
    require_width,
)
from course_lib.layers.norm import LayerNorm
from course_lib.registry import implements

torch.fx.wrap("rearrange")  # symbolic tracing takes it as one step


def memory_linear_naive(
    x: Float[Tensor, "*b i"],
    tables: Float[Tensor, "k m o"],
    temperature: float = 1.0,
    full: bool = False,
) -> Float[Tensor, "*b o"]:
    r"""The same by a softmax over all :math:`2^\tau` corners, of which only the nearest one is used.

    .. math:: y = \sum_k \max_s\, \mathrm{softmax}_s\bigl(\langle z_k, s \rangle / t\bigr)\; T_k[s^*], \qquad
        s \in \{-1, 1\}^\tau

    With ``full`` each row is also multiplied by :math:`\langle z_k, s^* \rangle`.

    >>> tables = torch.tensor([[[10.0], [20.0]]])  # one chunk of one bit
    >>> memory_linear_naive(torch.tensor([[0.5], [-50.0]]), tables).round(decimals=2).T
    tensor([[14.6200, 10.0000]])
    """
    chunks, corners, _ = tables.shape
    bits = corners.bit_length() - 1
    index = torch.arange(corners, device=x.device)
    signs = torch.stack([2.0 * (index >> bit & 1) - 1 for bit in range(bits)], dim=1).to(x)
    z = x.unflatten(-1, (chunks, bits))
    along = z @ signs.mT  # (*b, k, m)
    weights, nearest = (along / temperature).softmax(-1).max(-1)
    if full:
        weights = weights * along.max(-1).values
    return sum(weights[..., k, None] * tables[k, nearest[..., k]] for k in range(chunks))


@implements(
    "memoryformer",
    example=lambda: (MemoryLinear(6, 5, bits=3), torch.randn(3, 4, 6)),
    permutation_equivariant=True,
)
class MemoryLinear(nn.Module):
    r"""Cut the input into chunks; the signs of a chunk are the address of a row; add the rows, weighted.

    .. math:: y = c + \sum_{k=1}^{K} \Bigl(\sum_i |z_{ki}|\Bigr) p(z_k)\, T_k[h(z_k)], \qquad
        h(z)_i = [z_i > 0], \qquad p(z) = \prod_i \frac{1}{1 + e^{-2 |z_i| / t}}

    :math:`p(z)` is the softmax weight of the corner :math:`s = \mathrm{sign}(z)` among all :math:`2^\tau`
    corners of the cube; the sum over corners factorises, so it costs :math:`\tau` sigmoids. Only that row
    is read. The gradient reaches the tables as in an embedding, and the input through the weight alone. Per
    input :math:`K o` multiplications in place of :math:`\tau K o`; memory :math:`2^\tau K o` in place of
    :math:`\tau K o`.

    Args:
        in_features: input width; K chunks of ``bits`` entries.
        out_features: output width o.
        bits: :math:`\tau`, entries of a chunk; a divisor of ``in_features``.
        temperature: t of p; small values make p one.
        full: weigh a row by :math:`\langle z, s \rangle\, p(z)`, as the authors' code does; False weighs it
            by p alone, as the paper writes it.
        bias: add a learned vector c; not in the paper's formula, but in the authors' code.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for sizes below 1, bits that do not divide ``in_features``, a temperature that is not
            positive, or an input of the wrong width.
        TypeError: for an input of another type than the parameters.

    Paper: MemoryFormer: Minimize Transformer Computation by Removing Fully-Connected Layers -
    https://arxiv.org/abs/2411.12992

    Differs from the authors' code: rows are normal, scaled so that standard-normal inputs give outputs of
    variance about one (there 0.02, or the model's own start for queries, keys and values), and c starts at
    zero (there 0.001 normal). The first entry of a chunk is the lowest bit of the address (there the
    highest), and an entry of exactly zero is a zero bit (there a one). There t is 1, one hash can serve
    queries, keys and values, and a linear map can stand before the hash; both are off in its configurations.

    >>> layer = MemoryLinear(16, 8, bits=4)
    >>> layer(torch.randn(5, 16)).shape, layer.tables.shape
    (torch.Size([5, 8]), torch.Size([4, 16, 8]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bits: int = 8,
        temperature: float = 1.0,
        full: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, out_features=out_features)
        require_divides(name, in_features=in_features, bits=bits)
        require_number(name, 0, open_low=True, temperature=temperature)
        self.in_features, self.out_features = in_features, out_features
        self.bits, self.temperature, self.full = bits, temperature, full
        self.chunks = in_features // bits
        factory = {"device": device, "dtype": dtype}
        self.tables = nn.Parameter(torch.empty(self.chunks, 2**bits, out_features, **factory))
        self.bias = nn.Parameter(torch.empty(out_features, **factory)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal rows; the mean square of a weight for normal inputs, by quadrature, sets their deviation."""
        z = torch.linspace(-6, 6, 2001, dtype=torch.float64, device="cpu")
        square = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5
        square = square * torch.sigmoid(2 * z.abs() / self.temperature).square()
        zeroth, first, second = (torch.trapezoid(z.abs() ** k * square, z).item() for k in range(3))
        n = self.bits
        mean = zeroth**n
        if self.full:  # the square of a sum of n: n squares and n (n - 1) products
            mean = n * second * zeroth ** (n - 1)
            if n > 1:
                mean += n * (n - 1) * first**2 * zeroth ** (n - 2)
        nn.init.normal_(self.tables, std=(self.chunks * mean) ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def address(self, x: Float[Tensor, "*b i"]) -> tuple[Int[Tensor, "*b k"], Float[Tensor, "*b k"]]:
        """For every chunk the row that it reads, and the weight of that row."""
        z = x.unflatten(-1, (self.chunks, self.bits))
        powers = 2 ** torch.arange(self.bits, device=x.device)
        row = ((z > 0) * powers).sum(-1)
        p = torch.sigmoid(2 * z.abs() / self.temperature).prod(-1)
        return row, p * z.abs().sum(-1) if self.full else p

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        row, weight = self.address(x)
        # The rows of all tables in one list.
        row = row + 2**self.bits * torch.arange(self.chunks, device=x.device)
        y = F.embedding_bag(
            row.reshape(-1, self.chunks),
            self.tables.flatten(0, 1),
            mode="sum",
            per_sample_weights=weight.reshape(-1, self.chunks).to(self.tables.dtype),
        )
        y = y.reshape(x.shape[:-1] + (self.out_features,))  # noqa: RUF005 - tracing cannot unpack
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, bits={self.bits}, temperature={self.temperature}, "
            f"full={self.full}, bias={self.bias is not None}"
        )


@implements(
    "memoryformer",
    example=lambda: (MemoryFormerBlock(8, 2, bits=4), torch.randn(2, 5, 8)),
    exceptions={
        "gradients": "a bias of the keys moves all scores of a query alike, which the softmax ignores"
    },
    permutation_equivariant=True,
)
class MemoryFormerBlock(nn.Module):
    r"""A transformer block without linear layers: attention between memory layers, then two more of them.

    .. math:: x \leftarrow x + \mathrm{Attention}\bigl(M_Q(n), M_K(n), M_V(n)\bigr), \quad n = N_1(x) \qquad
        x \leftarrow x + M_2\bigl(N_3(M_1(N_2(x)))\bigr)

    There is no activation function: the hash is the nonlinearity. The norm before every memory layer keeps
    the entries centred, so that all bits are used.

    Args:
        dim: width d.
        num_heads: attention heads, a divisor of ``dim``.
        bits: address bits of all memory layers but the last.
        hidden_bits: address bits of the last; its input is ``dim / bits * hidden_bits`` wide. None: two more.
        temperature: of all memory layers.
        full: how they weigh a row, see :class:`MemoryLinear`.
        bias: add learned vectors in all of them.
        causal: mask the future.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for sizes below 1, heads or bits that do not divide ``dim``, a temperature that is not
            positive, or an input that is not ``(b, t, d)``.
        TypeError: for an input of another type than the parameters.

    Paper: MemoryFormer: Minimize Transformer Computation by Removing Fully-Connected Layers -
    https://arxiv.org/abs/2411.12992

    Differs from the authors' code: layer norms before the memory layers, where its configurations have RMS
    norms; no rotary positions, dropout or cache; a value width other than ``dim`` is left out. That no
    projection follows the heads, the layer norm between the last two, and two more bits are as there.

    >>> MemoryFormerBlock(8, 2, bits=4)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        bits: int = 8,
        hidden_bits: int | None = None,
        temperature: float = 1.0,
        full: bool = True,
        bias: bool = True,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_divides(name, dim=dim, num_heads=num_heads)
        require_divides(name, dim=dim, bits=bits)
        hidden_bits = bits + 2 if hidden_bits is None else hidden_bits
        require_positive(name, hidden_bits=hidden_bits)
        require_number(name, 0, open_low=True, temperature=temperature)
        self.dim, self.num_heads, self.causal = dim, num_heads, causal
        hidden_dim = dim // bits * hidden_bits
        factory = {"device": device, "dtype": dtype}
        options = {"temperature": temperature, "full": full, "bias": bias, **factory}
        self.norm_attention, self.norm_mlp = LayerNorm(dim, **factory), LayerNorm(dim, **factory)
        self.norm_hidden = LayerNorm(hidden_dim, **factory)
        self.query, self.key, self.value = (MemoryLinear(dim, dim, bits=bits, **options) for _ in range(3))
        self.first = MemoryLinear(dim, hidden_dim, bits=bits, **options)
        self.second = MemoryLinear(hidden_dim, dim, bits=hidden_bits, **options)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_tokens(x, self.dim, self)
        n = self.norm_attention(x)
        q, k, v = (
            rearrange(memory(n), "b t (h e) -> b h t e", h=self.num_heads)
            for memory in (self.query, self.key, self.value)
        )
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + rearrange(heads, "b h t e -> b t (h e)")
        return x + self.second(self.norm_hidden(self.first(self.norm_mlp(x))))

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}, causal={self.causal}"
