"""A gate without a nonlinearity: every output is a quadratic form, and can be taken apart exactly."""

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_positive, require_width
from course_lib.registry import implements


@implements(
    "bilinear-layers",
    example=lambda: (BilinearMLP(6, 5, out_features=4), torch.randn(2, 3, 6)),
    permutation_equivariant=True,
)
class BilinearMLP(nn.Module):
    r"""The product of two linear maps, entry by entry, and a read-out: a gated unit without its activation.

    .. math:: y = W_{\mathrm{out}} \bigl( (W_1 \tilde x) \odot (W_2 \tilde x) \bigr), \qquad
        \tilde x = (x, 1)

    Args:
        in_features: width d of the input.
        hidden_dim: width h of the two maps.
        out_features: width o of the output, d unless given.
        bias: append the constant 1 to x, which gives both maps a bias and the output lower-order terms.
        device, dtype: of the parameters, as in torch.

    Shape: ``(*b, d)`` to ``(*b, o)``.

    Raises:
        ValueError: for a size below 1, or if the last axis is not ``in_features`` wide.
        TypeError: for arguments and inputs of another type.

    Paper: A technical note on bilinear layers for interpretability - https://arxiv.org/abs/2305.03452

    The output grows like the square of the input, so put a norm before the layer in a deep network.

    >>> layer = BilinearMLP(2, 1, bias=False)
    >>> for w, value in zip(layer.parameters(), ([[1.0, 0.0]], [[0.0, 1.0]], [[1.0], [1.0]])):
    ...     w.data = torch.tensor(value)
    >>> layer(torch.tensor([3.0, 5.0])).detach()
    tensor([15., 15.])
    """

    def __init__(
        self,
        in_features: int,
        hidden_dim: int,
        *,
        out_features: int | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_features = in_features if out_features is None else out_features
        name = type(self).__name__
        require_positive(name, in_features=in_features, hidden_dim=hidden_dim, out_features=out_features)
        self.in_features, self.hidden_dim, self.out_features = in_features, hidden_dim, out_features
        factory = {"device": device, "dtype": dtype}
        self.left = nn.Linear(in_features, hidden_dim, bias=bias, **factory)
        self.right = nn.Linear(in_features, hidden_dim, bias=bias, **factory)
        self.out = nn.Linear(hidden_dim, out_features, bias=False, **factory)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        return self.out(self.left(x) * self.right(x))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.hidden_dim}, out_features={self.out_features}"

    def augment(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b i"]:
        """The vector that the tensor multiplies: x with a 1 appended, or x itself without a bias."""
        return x if self.left.bias is None else F.pad(x, (0, 1), value=1.0)

    def augmented_weights(self) -> tuple[Float[Tensor, "h i"], Float[Tensor, "h i"]]:
        """Both matrices with their bias as a last column."""
        if self.left.bias is None:
            return self.left.weight, self.right.weight
        return tuple(torch.cat([m.weight, m.bias[:, None]], dim=1) for m in (self.left, self.right))


@implements("bilinear-layers")
def bilinear_tensor(layer: BilinearMLP, *, symmetric: bool = True) -> Float[Tensor, "o i i"]:
    r"""The third-order tensor that is the layer: one matrix of a quadratic form for each output.

    .. math:: B_{oij} = \sum_k W^{\mathrm{out}}_{ok} W^1_{ki} W^2_{kj}, \qquad
        y_o = \tilde x^\top B_o\, \tilde x

    Args:
        layer: the bilinear layer.
        symmetric: return :math:`(B_o + B_o^\top) / 2`, which gives the same outputs.

    Shape: ``(o, i, i)`` with i = d + 1 for a layer with bias, else d.

    Paper: A technical note on bilinear layers for interpretability - https://arxiv.org/abs/2305.03452

    >>> bilinear_tensor(BilinearMLP(3, 5, out_features=2)).shape
    torch.Size([2, 4, 4])
    """
    left, right = layer.augmented_weights()
    tensor = einsum(layer.out.weight, left, right, "o k, k i, k j -> o i j")
    return (tensor + tensor.mT) / 2 if symmetric else tensor


@implements("bilinear-layers")
def quadratic_forms(
    tensor: Float[Tensor, "o i i"], x: Float[Tensor, "*b i"], z: Float[Tensor, "*b i"] | None = None
) -> Float[Tensor, "*b o"]:
    r"""Evaluate all forms at one vector, or at a pair of vectors.

    .. math:: y_o = x^\top B_o\, z

    Args:
        tensor: one matrix per output.
        x: the vector on the left.
        z: the vector on the right, x unless given.

    Paper: A technical note on bilinear layers for interpretability - https://arxiv.org/abs/2305.03452

    >>> quadratic_forms(torch.eye(2)[None], torch.tensor([3.0, 4.0]))
    tensor([25.])
    """
    return einsum(tensor, x, x if z is None else z, "o i j, ... i, ... j -> ... o")


@implements("bilinear-layers")
def bilinear_interactions(
    tensor: Float[Tensor, "o i i"], parts: Float[Tensor, "p *b i"]
) -> Float[Tensor, "p p *b o"]:
    r"""Split the output for an input that is a sum of parts into one term for each pair of parts.

    .. math:: T_{fg} = u_f^\top B\, u_g, \qquad \sum_{fg} T_{fg} = y\Bigl(\sum_f u_f\Bigr)

    With the residual stream and the outputs of attention heads as parts, these are the paths through a
    transformer's feed-forward layer.

    Args:
        tensor: from :func:`bilinear_tensor`.
        parts: the addends of the (augmented) input; the constant 1 is an addend of its own.

    Paper: A technical note on bilinear layers for interpretability - https://arxiv.org/abs/2305.03452

    >>> parts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> bilinear_interactions(torch.tensor([[[2.0, 0.0], [0.0, 3.0]]]), parts)[..., 0]
    tensor([[2., 0.],
            [0., 3.]])
    """
    return einsum(tensor, parts, parts, "o i j, f ... i, g ... j -> f g ... o")


@implements("bilinear-layers")
def bilinear_eigenvectors(
    tensor: Float[Tensor, "o i i"],
) -> tuple[Float[Tensor, "o i"], Float[Tensor, "o i i"]]:
    r"""Eigenvalues and eigenvectors of every form, the largest absolute value first.

    .. math:: \tfrac12 (B_o + B_o^\top) = \sum_r \lambda_{or}\, v_{or} v_{or}^\top, \qquad
        y_o = \sum_r \lambda_{or} (v_{or} \cdot \tilde x)^2

    Args:
        tensor: one matrix per output; made symmetric first.

    Shape: values ``(o, r)`` and vectors ``(o, r, i)``: row r is the eigenvector of value r.

    Paper: A technical note on bilinear layers for interpretability - https://arxiv.org/abs/2305.03452. The
    eigenvectors extend the note, which stops at the tensor.

    >>> values, _ = bilinear_eigenvectors(torch.tensor([[[1.0, 0.0], [0.0, -3.0]]]))
    >>> values
    tensor([[-3.,  1.]])
    """
    values, vectors = torch.linalg.eigh((tensor + tensor.mT) / 2)
    order = values.abs().argsort(dim=-1, descending=True)
    return values.gather(-1, order), vectors.mT.gather(-2, order[..., None].expand_as(vectors))
