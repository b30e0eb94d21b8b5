"""Two kinds of head: a sensory one sends what a token is, a relational one how two tokens are related."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, einsum, nn
from torch.fx import Proxy

from course_lib.layers._shapes import layer_name, require_module, require_positive, require_tokens
from course_lib.layers.attention._common import head_width, reset_projections
from course_lib.layers.attention.dot_product import Mask, attention_weights, scaled_dot_product
from course_lib.layers.attention.multi_head import MultiHeadAttention
from course_lib.registry import implements

torch.fx.wrap("attention_weights")
torch.fx.wrap("rearrange")
torch.fx.wrap("scaled_dot_product")


def relational_attention_naive(
    weights: Float[Tensor, "h t s"],
    relations: Float[Tensor, "r t s"],
    symbols: Float[Tensor, "h s e"],
    weight_r: Float[Tensor, "h r e"],
) -> Float[Tensor, "h t e"]:
    r"""The equation with a loop per letter.

    .. math:: y_{ht} = \sum_s a_{hts} \Bigl(\sum_r \rho_{rts}\, W^R_{hr} + z_{hs}\Bigr)

    >>> one = torch.ones(1, 1, 1)
    >>> relational_attention_naive(one, 2 * one, 3 * one, 5 * one)
    tensor([[[13.]]])
    """
    heads, queries, sources = weights.shape
    y = []
    for h in range(heads):
        for t in range(queries):
            total = torch.zeros_like(symbols[h, 0])
            for s in range(sources):
                message = symbols[h, s]
                for r in range(len(relations)):
                    message = message + relations[r, t, s] * weight_r[h, r]
                total = total + weights[h, t, s] * message
            y.append(total)
    return torch.stack(y).unflatten(0, (heads, queries))


def relational_attention(
    weights: Float[Tensor, "b h t s"],
    relations: Float[Tensor, "b r t s"],
    symbols: Float[Tensor, "b h s e"],
    weight_r: Float[Tensor, "h r e"],
) -> Float[Tensor, "b h t e"]:
    r"""Send relations and symbols along attention weights, in the order that keeps no ``(t, s, e)`` message.

    .. math:: y_{ht} = \Bigl(\sum_s a_{hts}\, \rho_{\cdot ts}\Bigr) W^R_h + \sum_s a_{hts}\, z_{hs}

    >>> one = torch.ones(1, 1, 1, 1)
    >>> relational_attention(one, 2 * one, 3 * one, torch.full((1, 1, 1), 5.0))
    tensor([[[[13.]]]])
    """
    seen = einsum("bhts,brts->bhtr", weights, relations)
    return einsum("bhtr,hre->bhte", seen, weight_r) + einsum("bhts,bhse->bhte", weights, symbols)


@implements(
    "dual-attention-transformer",
    example=lambda: (SymbolicAttention(6, 2, 7), torch.randn(2, 5, 6)),
    permutation_equivariant=True,
)
class SymbolicAttention(nn.Module):
    r"""Give every token a symbol: attention over learned templates returns learned symbols.

    .. math:: z_{ht} = \sum_{i=1}^N \mathrm{softmax}_i\Bigl(
        \frac{W^Q_h x_t \cdot k_{hi}}{\sqrt{d_h}}\Bigr) v_{hi}

    A symbol points to a kind of token without carrying its features, and does not depend on the position.

    Args:
        dim: width d of input and symbols.
        num_heads: heads h; each picks one part of the symbol.
        num_symbols: templates and symbols N in the library.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for sizes that do not fit.
        TypeError: for sizes that are no integers, or inputs of another dtype.

    Paper: Disentangling and Integrating Relational and Sensory Information in Transformer Architectures -
    https://arxiv.org/abs/2405.16727

    >>> SymbolicAttention(6, 2, 7)(torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_symbols: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        width = head_width(name, dim, num_heads, None)
        require_positive(name, num_symbols=num_symbols)
        self.dim, self.num_heads, self.num_symbols = dim, num_heads, num_symbols
        self.query = nn.Linear(dim, dim, **factory)
        self.templates = nn.Parameter(torch.empty(num_heads, num_symbols, width, **factory))
        self.symbols = nn.Parameter(torch.empty(num_heads, num_symbols, width, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Standard-normal templates and symbols, Xavier-uniform query."""
        nn.init.normal_(self.templates)
        nn.init.normal_(self.symbols)
        reset_projections(self.query)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_tokens(x, self.dim, self)
        q = rearrange(self.query(x), "b t (h e) -> b h t e", h=self.num_heads)
        k, v = (library.expand(x.shape[0], -1, -1, -1) for library in (self.templates, self.symbols))
        return rearrange(scaled_dot_product(q, k, v), "b h t e -> b t (h e)")

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}, num_symbols={self.num_symbols}"


@implements(
    "dual-attention-transformer",
    example=lambda: (RelationalAttention(6, 2, num_relations=3), torch.randn(2, 5, 6), torch.randn(2, 5, 6)),
    permutation_equivariant=True,
)
class RelationalAttention(nn.Module):
    r"""Attention that chooses a sender by its features, but receives only the relation to it and its symbol.

    .. math:: a_{hts} = \mathrm{softmax}_s\Bigl(\frac{W^Q_h x_t \cdot W^K_h x_s}{\sqrt{d_h}}\Bigr), \qquad
        \rho_{rts} = \frac{U^Q_r x_t \cdot U^K_r x_s}{\sqrt{d_r}}, \qquad
        y_t = \sum_h W^O_h \sum_s a_{hts} \Bigl(\sum_r \rho_{rts}\, W^R_{hr} + W^S_h z_s\Bigr)

    No softmax acts on the relations :math:`\rho`, which all heads share; :math:`W^R` is each head's own.

    Args:
        dim: width d of input, symbols and output.
        num_heads: heads H.
        num_relations: relations R, as many as heads unless given.
        head_dim: width of a head, ``dim / num_heads`` unless given.
        relation_dim: width of the vectors whose product is a relation, ``num_heads * head_dim``
            divided by ``num_relations`` and rounded up unless given.
        symmetric: take :math:`U^K = U^Q`, so that the relation of t to s is that of s to t.
        causal: mask the future.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: tokens ``(b, t, d)`` and their symbols ``(b, t, d)`` to ``(b, t, d)``; with
    ``return_weights=True`` also the weights ``(b, h, t, s)`` and the relations ``(b, r, t, s)``.

    Raises:
        ValueError: for sizes that do not fit.
        TypeError: for sizes that are no integers, or inputs of another dtype.

    Paper: Disentangling and Integrating Relational and Sensory Information in Transformer Architectures -
    https://arxiv.org/abs/2405.16727

    Differs from the paper: symbols of a token (from :class:`SymbolicAttention` or by position), not of a
    pair, so that the relative-position symbols are left out. Differs from the authors' code, whose values
    the tests hold: no rotary positions, grouped keys, dropout, activation of the relations or optional
    biases, and projections start Xavier-uniform instead of as torch's linear layer.

    >>> RelationalAttention(6, 2)(torch.randn(2, 5, 6), torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_relations: int | None = None,
        head_dim: int | None = None,
        relation_dim: int | None = None,
        symmetric: bool = False,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        self.dim, self.num_heads, self.causal = dim, num_heads, causal
        self.head_dim = head_width(name, dim, num_heads, head_dim)
        self.num_relations = num_heads if num_relations is None else num_relations
        require_positive(name, num_relations=self.num_relations)
        width = num_heads * self.head_dim
        self.relation_dim = -(-width // self.num_relations) if relation_dim is None else relation_dim
        require_positive(name, relation_dim=self.relation_dim)
        self.query, self.key, self.value = (nn.Linear(dim, width, bias=False, **factory) for _ in range(3))
        self.relation_query = nn.Linear(dim, self.num_relations * self.relation_dim, bias=False, **factory)
        self.relation_key = self.relation_query
        if not symmetric:
            self.relation_key = nn.Linear(dim, self.num_relations * self.relation_dim, bias=False, **factory)
        self.weight_r = nn.Parameter(torch.empty(num_heads, self.num_relations, self.head_dim, **factory))
        self.out = nn.Linear(width, dim, bias=False, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections; W^R uniform up to 1 / sqrt(R d_h), as the authors start it."""
        reset_projections(*(m for m in self.children()))
        bound = (self.num_relations * self.head_dim) ** -0.5
        nn.init.uniform_(self.weight_r, -bound, bound)

    def relations(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b r t s"]:
        """How every token is related to every other, before any choice of whom to attend to."""
        split = (self.num_relations, self.relation_dim)
        q, k = self.relation_query(x).unflatten(-1, split), self.relation_key(x).unflatten(-1, split)
        return einsum("btre,bsre->brts", self.relation_dim**-0.5 * q, k)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        symbols: Float[Tensor, "b t d"],
        *,
        mask: Mask | None = None,
        return_weights: bool = False,
    ) -> (
        Float[Tensor, "b t o"]
        | tuple[Float[Tensor, "b t o"], Float[Tensor, "b h t t"], Float[Tensor, "b r t t"]]
    ):
        require_tokens(x, self.dim, self)
        require_tokens(symbols, self.dim, self, name="symbols")
        if not isinstance(x, Proxy) and symbols.shape != x.shape:
            raise ValueError(
                f"{layer_name(self)}: every token needs a symbol, got x {tuple(x.shape)} and symbols "
                f"{tuple(symbols.shape)}"
            )
        q, k, z = (
            rearrange(part, "b t (h e) -> b h t e", h=self.num_heads)
            for part in (self.query(x), self.key(x), self.value(symbols))
        )
        weights, relations = attention_weights(q, k, mask=mask, causal=self.causal), self.relations(x)
        heads = relational_attention(weights, relations, z, self.weight_r)
        y = self.out(rearrange(heads, "b h t e -> b t (h e)"))
        return (y, weights, relations) if return_weights else y

    def extra_repr(self) -> str:
        heads = f"num_heads={self.num_heads}, num_relations={self.num_relations}"
        return f"{self.dim}, {heads}, causal={self.causal}"


@implements(
    "dual-attention-transformer",
    example=lambda: (DualAttention(8, 2, 2, causal=True), torch.randn(2, 5, 8)),
    exceptions={"half_precision": "relations are products of inputs that nothing normalises"},
    causal=True,
)
class DualAttention(nn.Module):
    r"""Sensory and relational heads side by side.

    .. math:: y = [\,W^O_1\, \text{sensory heads}(x);\; W^O_2\, \text{relational heads}(x, z(x))\,]

    Either kind has an output matrix of its own and writes into its own part of y, so that the two kinds of
    information leave the layer side by side, unmixed.

    Args:
        dim: width d.
        num_sensory_heads: heads of ordinary attention.
        num_relational_heads: heads of :class:`RelationalAttention`; every head is d / (all heads) wide.
        symbols: a module from ``(b, t, d)`` to the tokens' symbols ``(b, t, d)``;
            :class:`SymbolicAttention` with d symbols unless given. A module that adds positions tells the
            relational heads the order.
        num_relations: relations, as many as relational heads unless given.
        symmetric: symmetric relations.
        causal: mask the future.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for sizes that do not fit.
        TypeError: for sizes that are no integers, or inputs of another dtype.

    Paper: Disentangling and Integrating Relational and Sensory Information in Transformer Architectures -
    https://arxiv.org/abs/2405.16727

    Differs from the authors' code, whose values the tests hold: the layer makes its symbols itself, where
    theirs are passed to every layer, most often by one retriever for all of them; and what
    :class:`RelationalAttention` lists.

    >>> DualAttention(8, 2, 2)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        num_sensory_heads: int,
        num_relational_heads: int,
        *,
        symbols: nn.Module | None = None,
        num_relations: int | None = None,
        symmetric: bool = False,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        heads = {"num_sensory_heads": num_sensory_heads, "num_relational_heads": num_relational_heads}
        require_positive(name, **heads)
        num_heads = num_sensory_heads + num_relational_heads
        head_dim = head_width(name, dim, num_heads, None, **heads)
        if num_relations is not None:
            require_positive(name, num_relations=num_relations)
        if symbols is None:
            symbols = SymbolicAttention(dim, num_heads, num_symbols=dim, **factory)
        require_module(name, symbols=symbols)
        self.dim, self.symbols = dim, symbols
        self.sensory = MultiHeadAttention(
            dim, num_sensory_heads, head_dim=head_dim, causal=causal, bias=False, **factory
        )
        self.relational = RelationalAttention(
            dim,
            num_relational_heads,
            num_relations=num_relations,
            head_dim=head_dim,
            symmetric=symmetric,
            causal=causal,
            **factory,
        )
        for part in (self.sensory, self.relational):  # each writes as many features as its heads have
            width = part.num_heads * head_dim
            part.out = nn.Linear(width, width, bias=False, **factory)
            reset_projections(part.out)

    def forward(self, x: Float[Tensor, "b t d"], *, mask: Mask | None = None) -> Float[Tensor, "b t d"]:
        require_tokens(x, self.dim, self)
        return torch.cat([self.sensory(x, mask=mask), self.relational(x, self.symbols(x), mask=mask)], dim=-1)

    def extra_repr(self) -> str:
        return f"{self.dim}"
