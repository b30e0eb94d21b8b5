"""A million bytes in one layer: a gated convolution with a giant stride and a maximum over the whole file."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.registry import implements

__all__ = ["MalConv", "decov_penalty", "locate_activation"]

PADDING = 256  # the symbol that is no byte


@implements(
    "malconv",
    example=lambda: (
        MalConv(3, channels=5, window=4, hidden=6, embedding_dim=3),
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
        window: bytes that one position sees.
        stride: bytes between two positions; the window unless given.
        hidden: width of the dense layer.
        embedding_dim: numbers per byte.

    Shape: bytes ``(b, t)``, 0 to 255 and 256 for padding, to ``(b, k)``.

    Raises:
        ValueError: for a file shorter than a window.

    Paper: Malware Detection by Eating a Whole EXE - https://arxiv.org/abs/1710.09435

    The defaults are the paper's: about a million parameters.

    >>> sum(p.numel() for p in MalConv(2).parameters())
    1043082
    """

    def __init__(
        self,
        num_classes: int,
        *,
        channels: int = 128,
        window: int = 500,
        stride: int | None = None,
        hidden: int = 128,
        embedding_dim: int = 8,
    ) -> None:
        super().__init__()
        self.window, self.stride = window, window if stride is None else stride
        self.embedding = nn.Embedding(PADDING + 1, embedding_dim, padding_idx=PADDING)
        self.value, self.gate = (
            nn.Conv1d(embedding_dim, channels, window, stride=self.stride) for _ in range(2)
        )
        self.hidden, self.out = nn.Linear(channels, hidden), nn.Linear(hidden, num_classes)

    def features(self, x: Int64[Tensor, "b t"]) -> Float[Tensor, "b c n"]:
        """The gated activation of every filter at every position."""
        if x.shape[1] < self.window:
            raise ValueError(f"a file of {x.shape[1]} bytes is shorter than the window {self.window}; pad it")
        embedded = self.embedding(x).mT
        return self.value(embedded) * torch.sigmoid(self.gate(embedded))

    def classify(self, pooled: Float[Tensor, "b c"]) -> Float[Tensor, "b k"]:
        """Class scores from one number per filter."""
        return self.out(self.hidden(pooled).relu())

    def forward(self, x: Int64[Tensor, "b t"]) -> Float[Tensor, "b k"]:
        return self.classify(self.features(x).amax(2))


@implements("malconv")
def locate_activation(model: MalConv, x: Int64[Tensor, "b t"], target: int) -> Float[Tensor, "b n"]:
    r"""How much each window of a file speaks for a class.

    .. math:: r_n = \sum_{c:\, n = \arg\max_m h_{cm}} h_{cn}\,
        \frac{\partial z_{target}}{\partial \max_m h_{cm}}

    Only the windows that win the maximum of some filter count, so the map has at most as many non-zero
    entries as there are filters.

    Args:
        model: the classifier.
        x: files.
        target: the class in question.

    Paper: Malware Detection by Eating a Whole EXE - https://arxiv.org/abs/1710.09435

    Inferred: the paper maps class activations of regions; we weigh each maximum by the gradient of the score.

    >>> model = MalConv(2, channels=4, window=5)
    >>> locate_activation(model, torch.randint(256, (1, 50)), target=1).count_nonzero() <= 4
    tensor(True)
    """
    with torch.no_grad():
        pooled, winners = model.features(x).max(2)  # (b, c) each
    pooled.requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(model.classify(pooled)[:, target].sum(), pooled)
    windows = (x.shape[1] - model.window) // model.stride + 1
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
