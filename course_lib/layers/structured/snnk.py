"""Scalable neural network kernels: random features that part the input of a layer from its weights."""

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._half import no_autocast, wide
from course_lib.layers._shapes import require_callable, require_number, require_positive, require_width
from course_lib.registry import implements


def orthogonal_projections(
    num_features: int, dim: int, *, generator: torch.Generator | None = None
) -> Float[Tensor, "m d"]:
    """Normal vectors that are orthogonal within blocks of ``dim``: the same mean as independent ones, less
    variance.

    >>> g = orthogonal_projections(3, 3)
    >>> torch.allclose(g @ g.mT, torch.diag((g @ g.mT).diagonal()), atol=1e-5)
    True
    """
    require_positive("orthogonal_projections", num_features=num_features, dim=dim)
    dtype = torch.get_default_dtype()
    exact = {"generator": generator, "dtype": torch.promote_types(dtype, torch.float32)}  # QR takes no less
    blocks = []
    for _ in range(-(-num_features // dim)):
        g = torch.randn(dim, dim, **exact)
        q = torch.linalg.qr(g).Q
        q = q * torch.randint(0, 2, (dim,), generator=generator).mul(2).sub(1)  # QR fixes signs; draw them
        lengths = torch.randn(dim, dim, **exact).norm(dim=1)
        blocks.append(lengths[:, None] * q.mT)
    return torch.cat(blocks)[:num_features].to(dtype)


@implements("snnk")
def exp_features(x: Float[Tensor, "*b d"], projections: Float[Tensor, "m d"]) -> Float[Tensor, "*b m"]:
    r"""Positive features of the exponential of a dot product.

    .. math:: \phi(x) = \frac{1}{\sqrt m} \exp\bigl(G x - \tfrac12 \|x\|^2\bigr), \qquad
        \mathbb E\, \phi(x) \cdot \phi(w) = e^{x \cdot w}

    Args:
        x: inputs, or weights.
        projections: G, rows standard normal.

    Paper: Scalable Neural Network Kernels - https://arxiv.org/abs/2310.13225

    >>> exp_features(torch.zeros(1, 2), torch.randn(4, 2))
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    with no_autocast(x):  # the exponential multiplies a rounding of its argument
        z, g = wide(x), wide(projections)
        phi = torch.exp(z @ g.mT - z.square().sum(-1, keepdim=True) / 2) / len(projections) ** 0.5
    return phi.to(x.dtype)


@implements("snnk")
def arccos_features(x: Float[Tensor, "*b d"], projections: Float[Tensor, "m d"]) -> Float[Tensor, "*b m"]:
    r"""Features of the arc-cosine kernel, themselves ReLUs of projections.

    .. math:: \phi(x) = \frac{1}{\sqrt m} \mathrm{ReLU}(G x), \qquad
        \mathbb E\, \phi(x) \cdot \phi(w) = \frac{\|x\| \|w\|}{2 \pi} \bigl(\sin a + (\pi - a) \cos a\bigr)

    a is the angle between x and w.

    Args:
        x: inputs, or weights.
        projections: G, rows standard normal.

    Paper: Scalable Neural Network Kernels - https://arxiv.org/abs/2310.13225

    >>> arccos_features(torch.ones(1, 1), torch.tensor([[2.0], [-2.0], [4.0], [-4.0]]))
    tensor([[1., 0., 2., 0.]])
    """
    return F.relu(x @ projections.mT) / len(projections) ** 0.5


@implements("snnk")
def universal_random_features(
    x: Float[Tensor, "*b d"], projections: Float[Tensor, "m d"], frequencies: Float[Tensor, "l"]
) -> Complex[Tensor, "*b n"]:
    r"""Complex features of any function with a spectrum, for inputs and weights alike.

    For :math:`f(z) = \sum_j a_j e^{2 \pi i \xi_j z}`,

    .. math:: f(w \cdot x + b) = \mathbb E\, \mathrm{Re} \sum_{j,k} a_j e^{2 \pi i \xi_j b}\,
        \phi_{jk}(x)\, \phi_{jk}(w), \qquad
        \phi_{jk}(x) = \tfrac{1}{\sqrt m} \exp\bigl(c_j\, g_k \cdot x - \tfrac12 c_j^2 \|x\|^2\bigr), \quad
        c_j = \sqrt{2 \pi i\, \xi_j}

    A plain product, without conjugate: the same :math:`c_j` on both sides. For a continuous spectrum
    :math:`\tau(\xi)` draw l frequencies with density p and take :math:`a_j = \tau(\xi_j) / (l\, p(\xi_j))`.
    The cosine needs only :math:`\xi = \pm 1 / 2 \pi` with :math:`a = 1/2`.

    Differs from the authors' code: every frequency meets every projection; there each projection has one
    frequency of its own. At one frequency the two agree for a batch of vectors; for sequences of vectors the
    code subtracts :math:`c^2 \|x\|^2` where half of it is right.

    Args:
        x: inputs, or weights; keep them short, the variance grows exponentially with their lengths.
        projections: G, rows standard normal.
        frequencies: the :math:`\xi_j`.

    Returns features for all pairs, frequencies slowest.

    Paper: Scalable Neural Network Kernels - https://arxiv.org/abs/2310.13225

    >>> universal_random_features(torch.zeros(1, 2), torch.randn(4, 2), torch.tensor([0.5])).real
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    c = torch.sqrt(2j * torch.pi * frequencies)[:, None]  # (l, 1)
    along = (x @ projections.mT)[..., None, :]
    square = x.square().sum(-1)[..., None, None]
    return (torch.exp(c * along - c.square() * square / 2) / len(projections) ** 0.5).flatten(-2)


@implements(
    "snnk",
    example=lambda: (SNNKLinear(6, 4, 8), torch.randn(3, 5, 6)),
    permutation_equivariant=True,
)
class SNNKLinear(nn.Module):
    r"""A layer that is linear in fixed random features of its input, in place of a matrix and an activation.

    .. math:: y = \Psi\, \phi(x), \qquad \Psi \in \mathbb R^{o \times m}

    :math:`\Psi` is trained itself, so the layer has :math:`m o` parameters, whatever the input width. It
    begins as the features of random weights, :math:`\Psi_k = \phi(w_k)`, so that :math:`y_k` is on average
    the kernel of the features at :math:`(w_k, x)`: :math:`e^{w_k \cdot x}` for :func:`exp_features`, and for
    :func:`arccos_features` the arc-cosine kernel. That is not :math:`\mathrm{ReLU}(w_k \cdot x)`: it is
    positive for every x, :math:`\|w_k\| \|x\| / 2 \pi` where :math:`w_k \cdot x = 0`.

    Args:
        in_features: input width d.
        out_features: output width o.
        num_features: m.
        features: :math:`\phi`, called with the input and the projections: :func:`arccos_features` or
            :func:`exp_features`.
        device: of parameters and projections.
        dtype: of parameters and projections.

    Shape: ``(*b, d)`` to ``(*b, o)``.

    Raises:
        ValueError: for sizes below 1 or an input of the wrong width.
        TypeError: for features that cannot be called, or an input of another type than the parameters.

    Paper: Scalable Neural Network Kernels - https://arxiv.org/abs/2310.13225

    Differs from the authors' code: projections are orthogonal within blocks (there an option, off for this
    layer), the random weights of the start are normal with variance 1 / d (there torch's uniform start of a
    linear layer, or given ones), and a floor other than zero for the ReLU features, the normalisation of
    inputs and the bias of the weights are left out.

    >>> SNNKLinear(64, 10, 16)(torch.randn(5, 64)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_features: int,
        *,
        features: Callable[[Tensor, Tensor], Tensor] = arccos_features,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, in_features=in_features, out_features=out_features, num_features=num_features)
        require_callable(name, features=features)
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.num_features = in_features, out_features, num_features
        self.features = features
        self.register_buffer("projections", torch.empty(num_features, in_features, **factory))
        self.psi = nn.Parameter(torch.empty(out_features, num_features, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New projections, and the features of random weights."""
        self.projections.copy_(orthogonal_projections(self.num_features, self.in_features))
        weight = torch.randn(self.out_features, self.in_features).to(self.psi) / self.in_features**0.5
        with torch.no_grad():
            self.psi.copy_(self.features(weight, self.projections))

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        return F.linear(self.features(x, self.projections), self.psi)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, num_features={self.num_features}"


@implements("snnk")
@torch.no_grad()
def bundle(layer: SNNKLinear, linear: nn.Linear) -> SNNKLinear:
    r"""One layer in place of two: a linear layer behind the features multiplies into them.

    .. math:: W (\Psi \phi(x)) = (W \Psi)\, \phi(x)

    Args:
        layer: the first layer.
        linear: the next one, without bias.

    Raises:
        ValueError: if the widths do not fit or ``linear`` has a bias.

    Paper: Scalable Neural Network Kernels - https://arxiv.org/abs/2310.13225

    >>> bundle(SNNKLinear(6, 100, 8), nn.Linear(100, 3, bias=False))
    SNNKLinear(6, 3, num_features=8)
    """
    if linear.in_features != layer.out_features or linear.bias is not None:
        raise ValueError(
            f"bundle: need a linear layer of input width {layer.out_features} without bias, got {linear}"
        )
    merged = SNNKLinear(layer.in_features, linear.out_features, layer.num_features, features=layer.features)
    merged = merged.to(layer.psi)
    merged.projections.copy_(layer.projections)
    merged.psi.copy_(linear.weight @ layer.psi)
    return merged


@implements("snnk")
@torch.no_grad()
def fit_bundled(
    layer: SNNKLinear, x: Float[Tensor, "n i"], y: Float[Tensor, "n o"], ridge: float = 1e-3
) -> SNNKLinear:
    r"""Train a fully bundled network without backpropagation: ridge regression on its features.

    .. math:: \Psi = Y^\top \Phi\, (\Phi^\top \Phi + \lambda I)^{-1}

    Args:
        layer: its :math:`\Psi` is overwritten.
        x: inputs.
        y: targets; for classes, one-hot rows.
        ridge: :math:`\lambda`.

    Raises:
        ValueError: for a negative ridge, or inputs or targets of the wrong width.

    Paper: Scalable Neural Network Kernels - https://arxiv.org/abs/2310.13225

    >>> x = torch.tensor([[1.0], [-1.0]])
    >>> fit_bundled(SNNKLinear(1, 1, 32), x, 3 * x, 1e-6)(torch.tensor([[5.0]])).detach().round(decimals=1)
    tensor([[15.]])
    """
    require_number("fit_bundled", 0, ridge=ridge)
    require_width(x, layer.in_features, layer)
    if y.shape != (len(x), layer.out_features):
        raise ValueError(
            f"fit_bundled: targets must be {(len(x), layer.out_features)} for this layer, "
            f"got {tuple(y.shape)}"
        )
    phi = layer.features(x, layer.projections).double()
    gram = phi.mT @ phi + ridge * torch.eye(layer.num_features, dtype=torch.float64, device=x.device)
    layer.psi.copy_(torch.linalg.solve(gram, phi.mT @ y.double()).mT)
    return layer
