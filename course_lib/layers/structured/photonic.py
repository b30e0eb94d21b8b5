"""Matrices made of light: meshes of Mach-Zehnder interferometers, and an absorber that saturates."""

import math

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor, nn

from course_lib.layers._half import no_autocast, wide
from course_lib.layers._shapes import require_number, require_positive, require_real, require_width
from course_lib.registry import implements


def mzi(theta: Float[Tensor, "*b"], phi: Float[Tensor, "*b"]) -> Complex[Tensor, "*b 2 2"]:
    r"""The unitary of one interferometer: a phase on the first mode, then a rotation of both.

    .. math:: T(\theta, \phi) = \begin{pmatrix} e^{i \phi} \cos\theta & -\sin\theta \\
        e^{i \phi} \sin\theta & \cos\theta \end{pmatrix}

    >>> mzi(torch.tensor(0.0), torch.tensor(0.0)).real
    tensor([[1., 0.],
            [0., 1.]])
    """
    theta, phi = wide(theta), wide(phi)  # torch has no complex numbers in bfloat16
    phase, c, s = torch.exp(1j * phi), torch.cos(theta), torch.sin(theta)
    rows = (phase * c, -s + 0 * phase), (phase * s, c + 0 * phase)
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _rectangle(dim: int) -> list[tuple[int, int]]:
    """Places (column, upper mode) of all interferometers, in the order in which light meets them."""
    return [(column, mode) for column in range(dim) for mode in range(column % 2, dim - 1, 2)]


@implements("nanophotonic")
@torch.no_grad()
def clements_decompose(
    unitary: Complex[Tensor, "n n"],
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"], Float[Tensor, "n"]]:
    r"""Angles of a rectangular mesh that performs a given unitary matrix.

    .. math:: U = \mathrm{diag}(e^{i \alpha})\, \prod T(\theta_k, \phi_k)

    Entries are set to zero one by one along antidiagonals, alternately by an interferometer from the right
    and by one from the left; a diagonal remains, and those on the left are pulled through it.

    Args:
        unitary: N x N.

    Returns :math:`\theta` and :math:`\phi` of the N (N - 1) / 2 interferometers, in the order of
    :class:`MZIMesh`, and the output phases :math:`\alpha`.

    Raises:
        ValueError: if the matrix is not unitary.

    Paper: Deep Learning with Coherent Nanophotonic Circuits - https://arxiv.org/abs/1610.02365 (which
    programs a triangular mesh; the rectangle is that of Clements and others,
    https://arxiv.org/abs/1603.08788)

    >>> theta, phi, alpha = clements_decompose(torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128))
    >>> theta.rad2deg()  # a full exchange of the two modes
    tensor([90.], dtype=torch.float64)
    """
    n, u = len(unitary), unitary.to(torch.complex128).clone()
    if unitary.ndim != 2 or u.shape != (n, n) or (u @ u.mH - torch.eye(n).to(u)).abs().max() > 1e-4:
        raise ValueError(
            f"clements_decompose: need a square matrix with U U* = I, got shape {tuple(unitary.shape)}"
        )
    right, left = [], []  # (mode, theta, phi), in the order in which they were found
    for diagonal in range(n - 1):
        for j in range(diagonal + 1):
            if diagonal % 2 == 0:  # U <- U T^-1 zeroes a row entry by mixing two columns
                row, mode = n - 1 - j, diagonal - j
                theta, phi = _angles(u[row, mode], u[row, mode + 1])
                u[:, mode : mode + 2] = u[:, mode : mode + 2] @ mzi(theta, phi).mH
                right.append((mode, theta, phi))
            else:  # U <- T U zeroes a column entry by mixing two rows
                row, column = n - 1 - diagonal + j, j
                theta, phi = _angles(-u[row, column], u[row - 1, column])
                u[row - 1 : row + 1] = mzi(theta, phi) @ u[row - 1 : row + 1]
                left.append((row - 1, theta, phi))
    alpha = u.diagonal().angle()
    for mode, theta, phi in reversed(left):  # T^-1 D = D' T'
        upper, lower = alpha[mode].clone(), alpha[mode + 1].clone()
        alpha[mode], alpha[mode + 1] = lower - phi + math.pi, lower
        right.append((mode, theta, upper - lower + math.pi))
    return *_in_columns(right, n), alpha.remainder(2 * math.pi)


def _angles(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    r"""Angles with :math:`a\, e^{-i\phi} \cos\theta = b \sin\theta`."""
    theta = torch.atan2(a.abs(), b.abs())
    return theta, (a.angle() - b.angle()) * ((a.abs() > 0) & (b.abs() > 0))


def _in_columns(
    found: list[tuple[int, Tensor, Tensor]], n: int
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
    """Push every interferometer as early as its two modes allow: that is the rectangle, column by column."""
    ready, placed = [0] * n, {}
    for mode, theta, phi in found:
        column = max(ready[mode], ready[mode + 1])
        column += (column + mode) % 2  # mode m has its interferometers in columns of its own parity
        ready[mode] = ready[mode + 1] = column + 1
        placed[column, mode] = theta, phi.remainder(2 * math.pi)
    order = _rectangle(n)
    stacked = [
        torch.stack([placed[place][k] for place in order]) if order else torch.zeros(0) for k in (0, 1)
    ]
    return stacked[0], stacked[1]


@implements("nanophotonic")
class MZIMesh(nn.Module):
    r"""A rectangle of interferometers: any unitary matrix as N (N - 1) / 2 rotations of neighbours.

    .. math:: y = \mathrm{diag}(e^{i \alpha})\, T_{M} \cdots T_2\, T_1\, x, \qquad M = \tfrac{N (N - 1)}2

    All interferometers of one column act at once: light passes N of them, whatever the number of modes.

    Args:
        dim: number of modes N.
        device: of the parameters.
        dtype: of the parameters.

    Shape: complex ``(*b, n)`` to complex ``(*b, n)``. A real input is taken as complex; with parameters of
    half precision complex64 is reckoned in.

    Raises:
        ValueError: for a size below 1 or another number of modes.
        TypeError: for light of another precision than the parameters.

    Paper: Deep Learning with Coherent Nanophotonic Circuits - https://arxiv.org/abs/1610.02365

    >>> mesh, light = MZIMesh(5), torch.randn(5, dtype=torch.complex64)
    >>> mesh.theta.shape, torch.allclose(mesh(light).norm(), light.norm())
    (torch.Size([10]), True)
    """

    def __init__(
        self, dim: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, dim=dim)
        factory = {"device": device, "dtype": dtype}
        self.dim = dim
        self.theta = nn.Parameter(torch.empty(dim * (dim - 1) // 2, **factory))
        self.phi = nn.Parameter(torch.empty(dim * (dim - 1) // 2, **factory))
        self.alpha = nn.Parameter(torch.empty(dim, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random angles."""
        nn.init.uniform_(self.theta, 0, math.pi / 2)
        nn.init.uniform_(self.phi, 0, 2 * math.pi)
        nn.init.uniform_(self.alpha, 0, 2 * math.pi)

    @classmethod
    def from_unitary(cls, unitary: Complex[Tensor, "n n"]) -> "MZIMesh":
        """The mesh that performs this matrix, in double precision."""
        mesh = cls(len(unitary)).double()
        with torch.no_grad():
            for parameter, angles in zip(
                (mesh.theta, mesh.phi, mesh.alpha), clements_decompose(unitary), strict=True
            ):
                parameter.copy_(angles)
        return mesh

    @property
    def unitary(self) -> Complex[Tensor, "n n"]:
        """The matrix that the mesh performs."""
        return self(torch.eye(self.dim).to(self.theta)).mT

    def forward(self, x: Shaped[Tensor, "*b n"], phase_noise: float = 0.0) -> Complex[Tensor, "*b n"]:
        """Send light through; ``phase_noise`` is the deviation of an error of every angle, drawn anew."""
        require_width(x, self.dim, self, real=False)
        if self.theta.dtype in (torch.float32, torch.float64):
            require_real(x.real if x.is_complex() else x, self, mixed=True)
        return self.send(x, phase_noise)

    def send(self, x: Shaped[Tensor, "*b n"], phase_noise: float = 0.0) -> Complex[Tensor, "*b n"]:
        """The same without a look at the input."""
        x, theta, phi, alpha = (wide(t) for t in (x, self.theta, self.phi, self.alpha))
        if phase_noise:
            theta, phi, alpha = (p + phase_noise * torch.randn_like(p) for p in (theta, phi, alpha))
        pairs = mzi(theta, phi)  # (m, 2, 2)
        x, start = x + 0j, 0
        for column in range(self.dim):
            first, count = column % 2, (self.dim - column % 2) // 2
            if count:
                touched = x[..., first : first + 2 * count].unflatten(-1, (count, 2))
                mixed = torch.einsum("...kj,kij->...ki", touched, pairs[start : start + count]).flatten(-2)
                x = torch.cat([x[..., :first], mixed, x[..., first + 2 * count :]], dim=-1)
            start += count
        return x * torch.exp(1j * alpha)

    def extra_repr(self) -> str:
        return f"{self.dim}"


@implements(
    "nanophotonic",
    example=lambda: (PhotonicLinear(5, 3), torch.randn(2, 4, 5)),
    permutation_equivariant=True,
)
class PhotonicLinear(nn.Module):
    r"""A real matrix as a mesh, a column of attenuators, and a second mesh.

    .. math:: y = \mathrm{Re}\bigl(U\, \mathrm{diag}(s)\, V^* x\bigr)

    Every real matrix has this form, by its singular value decomposition. Attenuators only weaken, so the chip
    holds :math:`s / \max s` and one amplifier gives back the rest. All angles can be trained, too.

    Args:
        in_features: input width, modes of the first mesh.
        out_features: output width, modes of the second mesh.
        phase_noise: deviation of a normal error of every angle, drawn anew at each call, in radians.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``. Half precision is reckoned in complex64: torch has no narrower light.

    Raises:
        ValueError: for sizes below 1, a negative noise, or an input of the wrong width.
        TypeError: for an input of another type than the parameters.

    Paper: Deep Learning with Coherent Nanophotonic Circuits - https://arxiv.org/abs/1610.02365

    Inferred: the detector reads the real part of the field. No bias: light is not added.

    >>> w = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> PhotonicLinear.from_dense(w)(torch.tensor([1.0, 1.0]).double()).round(decimals=4).detach()
    tensor([3., 7.], dtype=torch.float64)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        phase_noise: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, in_features=in_features, out_features=out_features)
        require_number(name, 0, phase_noise=phase_noise)
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.phase_noise = in_features, out_features, phase_noise
        self.first, self.second = MZIMesh(in_features, **factory), MZIMesh(out_features, **factory)
        self.singular_values = nn.Parameter(torch.empty(min(in_features, out_features), **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Singular values one; the meshes keep their random angles."""
        nn.init.ones_(self.singular_values)

    @classmethod
    def from_dense(cls, weight: Float[Tensor, "o i"], *, phase_noise: float = 0.0) -> "PhotonicLinear":
        """Program a matrix into the chip, in double precision."""
        layer = cls(weight.shape[1], weight.shape[0], phase_noise=phase_noise).double()
        u, s, vh = torch.linalg.svd(weight.detach().to(torch.complex128))
        layer.first, layer.second = MZIMesh.from_unitary(vh), MZIMesh.from_unitary(u)
        layer.singular_values.data.copy_(s)
        return layer

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The matrix that the chip performs, with errors of its own if it is noisy."""
        return self(torch.eye(self.in_features).to(self.singular_values)).mT

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        modes = min(self.in_features, self.out_features)
        with no_autocast(x):
            z = self.first.send(x, self.phase_noise)[..., :modes] * wide(self.singular_values)
            z = nn.functional.pad(z, (0, self.out_features - modes))
            return self.second.send(z, self.phase_noise).real.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, phase_noise={self.phase_noise}"


@implements("nanophotonic")
def saturable_absorber(
    intensity: Float[Tensor, "*b"], *, transmission: float = 0.1, saturation: float = 1.0
) -> Float[Tensor, "*b"]:
    r"""What is left of light behind a material that bright light bleaches: the nonlinearity.

    .. math:: y = T_m(x)\, x, \qquad \frac{x}{x_{\mathrm{sat}}} =
        \frac{\tfrac12 \ln (T_m / T_0)}{1 - T_m}

    Solved for :math:`T_m` by Newton's method, which from :math:`T_0` converges from one side. Weak light
    keeps the share :math:`T_0`, strong light nearly all.

    Args:
        intensity: x, not negative.
        transmission: :math:`T_0`, between 0 and 1.
        saturation: :math:`x_{\mathrm{sat}}`, the intensity :math:`1 / (\sigma \tau)` at which the material
            bleaches.

    Raises:
        ValueError: for a transmission outside (0, 1) or a saturation that is not positive.

    Paper: Deep Learning with Coherent Nanophotonic Circuits - https://arxiv.org/abs/1610.02365

    >>> saturable_absorber(torch.tensor([0.001, 1000.0])).round(decimals=4)
    tensor([1.0000e-04, 9.9885e+02])
    """
    require_number("saturable_absorber", 0, 1, open_low=True, transmission=transmission)
    if transmission == 1:
        raise ValueError(f"saturable_absorber: transmission must be below 1, got {transmission}")
    require_number("saturable_absorber", 0, open_low=True, saturation=saturation)
    a = intensity / saturation

    def newton(t: Tensor, a: Tensor) -> Tensor:
        return t - (torch.log(t / transmission) - 2 * a * (1 - t)) / (1 / t + 2 * a)

    with torch.no_grad():
        t = torch.full_like(a, transmission)
        for _ in range(20):
            t = newton(t, a)
    return intensity * newton(t, a)  # the last step carries the gradient: that of the implicit function
