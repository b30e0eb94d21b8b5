"""A million bytes in one layer: a gated convolution with a giant stride and a maximum over the whole file."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.fx import Proxy

from course_lib.layers._shapes import layer_name, require_integer, require_positive
from course_lib.registry import implements

PADDING = 256  # the symbol that is no byte


@implements(
    "malconv",
    example=lambda: (
        MalConv(3, channels=5, kernel_size=4, hidden_dim=6, embedding_dim=3),
        torch.randint(257, (2, 18)),
    ),
)
class MalConv(nn.Module):
    r"""Classify a file from its raw bytes.

    .. math:: h = (K_a *_s e) \odot \sigma(K_g *_s e), \qquad
        z = W_2\, \mathrm{relu}(W_1 \max_n h_n)

    e are the embedded bytes, the window is as long as the stride s, and the maximum runs over all windows.
    Cost and memory are linear in the length; one number per filter is left of any file.

    Args:
        num_classes: k.
        channels: filters of each of the two convolutions.
        kernel_size: bytes that one position sees, the window.
        stride: bytes between two positions; the window unless given.
        hidden_dim: width of the dense layer.
        embedding_dim: numbers per byte.
        device: of the parameters.
        dtype: of the parameters.

    Shape: bytes ``(b, t)`` of any integer type, 0 to 255 and 256 for padding, to ``(b, k)``.

    Raises:
        ValueError: for a size below 1, bytes that are not ``(b, t)``, or a file shorter than a window.
        TypeError: for a size that is no integer, or bytes that are no integers.

    Paper: Malware Detection by Eating a Whole EXE - https://arxiv.org/abs/1710.09435

    The defaults are the paper's: about a million parameters. Compared by value with the code that the authors
    released for a later paper, which differs: window and stride are 512 bytes there, bytes are numbered from
    1, with 0 for padding, and the maximum is taken in pieces of the file to save memory.

    >>> sum(p.numel() for p in MalConv(2).parameters())
    1043082
    """

    def __init__(
        self,
        num_classes: int,
        *,
        channels: int = 128,
        kernel_size: int = 500,
        stride: int | None = None,
        hidden_dim: int = 128,
        embedding_dim: int = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        stride = kernel_size if stride is None else stride
        require_positive(name, num_classes=num_classes, channels=channels, kernel_size=kernel_size)
        require_positive(name, stride=stride, hidden_dim=hidden_dim, embedding_dim=embedding_dim)
        self.kernel_size, self.stride = kernel_size, stride
        self.embedding = nn.Embedding(PADDING + 1, embedding_dim, padding_idx=PADDING, **factory)
        self.value, self.gate = (
            nn.Conv1d(embedding_dim, channels, kernel_size, stride=stride, **factory) for _ in range(2)
        )
        self.hidden = nn.Linear(channels, hidden_dim, **factory)
        self.out = nn.Linear(hidden_dim, num_classes, **factory)

    def features(self, x: Integer[Tensor, "b t"]) -> Float[Tensor, "b c n"]:
        """The gated activation of every filter at every position."""
        _require_bytes(x, self)
        embedded = self.embedding(x.long()).mT
        return self.value(embedded) * torch.sigmoid(self.gate(embedded))

    def classify(self, pooled: Float[Tensor, "b c"]) -> Float[Tensor, "b k"]:
        """Class scores from one number per filter."""
        return self.out(self.hidden(pooled).relu())

    def forward(self, x: Integer[Tensor, "b t"]) -> Float[Tensor, "b k"]:
        return self.classify(self.features(x).amax(2))

    def extra_repr(self) -> str:
        return f"{self.out.out_features}, kernel_size={self.kernel_size}, stride={self.stride}"


def _require_bytes(x: Tensor, model: MalConv) -> None:
    if isinstance(x, Proxy):
        return
    if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{layer_name(model)} expects bytes as a tensor of integers, got {kind}")
    if x.ndim != 2:
        raise ValueError(f"{layer_name(model)} expects bytes (b, t), got shape {tuple(x.shape)}")
    if x.shape[1] < model.kernel_size:
        raise ValueError(
            f"{layer_name(model)}: a file of {x.shape[1]} bytes is shorter than the window; pad it"
        )
    if x.device != model.out.weight.device:
        raise ValueError(f"{layer_name(model)} is on {model.out.weight.device}, the bytes are on {x.device}")


@implements("malconv")
def locate_activation(model: MalConv, x: Integer[Tensor, "b t"], target: int) -> Float[Tensor, "b n"]:
    r"""How much each window of a file speaks for a class.

    .. math:: r_n = \sum_{c:\, n = \arg\max_m h_{cm}} h_{cn}\,
        \frac{\partial z_{target}}{\partial \max_m h_{cm}}

    Only the windows that win the maximum of some filter count, so the map has at most as many non-zero
    entries as there are filters.

    Args:
        model: the classifier.
        x: files.
        target: the class in question.

    Raises:
        ValueError: as :class:`MalConv`, or for a class that there is not.
        TypeError: as :class:`MalConv`, or for a class that is no integer.

    Paper: Malware Detection by Eating a Whole EXE - https://arxiv.org/abs/1710.09435

    Inferred: the paper maps class activations of regions; we weigh each maximum by the gradient of the score.

    >>> model = MalConv(2, channels=4, kernel_size=5)
    >>> locate_activation(model, torch.randint(256, (1, 50)), target=1).count_nonzero() <= 4
    tensor(True)
    """
    require_integer("locate_activation", target=target)
    if not 0 <= target < model.out.out_features:
        raise ValueError(
            f"locate_activation: target must be a class from 0 to {model.out.out_features - 1}, got {target}"
        )
    with torch.no_grad():
        pooled, winners = model.features(x).max(2)  # (b, c) each
    pooled.requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(model.classify(pooled)[:, target].sum(), pooled)
    windows = (x.shape[1] - model.kernel_size) // model.stride + 1
    relevance = pooled.new_zeros(len(x), windows)
    return relevance.scatter_add(1, winners, (pooled * slope).detach())


@implements("malconv")
def decov_penalty(x: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""A penalty on features that vary together over the batch.

    .. math:: \tfrac12 \bigl(\|C\|_F^2 - \|\mathrm{diag}\, C\|_2^2\bigr), \qquad
        C = \tfrac1B \sum_b (x_b - \bar x)(x_b - \bar x)^\top

    Args:
        x: activations of the last but one layer.

    Paper: Malware Detection by Eating a Whole EXE - https://arxiv.org/abs/1710.09435 (the penalty is that of
    https://arxiv.org/abs/1511.06068)

    >>> decov_penalty(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    tensor(1.)
    """
    centred = x - x.mean(0)
    covariance = centred.T @ centred / len(x)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / 2
