"""NoProp: every block learns alone to clean a noisy label; in training no pass runs through the stack."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_width
from course_lib.registry import implements

__all__ = ["NoProp", "NoPropBlock", "noprop_coefficients", "noprop_schedule"]


@implements("noprop")
def noprop_schedule(num_steps: int, *, last: float = 0.99) -> Float[Tensor, "t"]:
    r"""How much of the label's variance is signal after each block, rising from none along a squared sine.

    .. math:: \bar\alpha_t = \bar\alpha_T \sin^2\Bigl(\frac{\pi t}{2T}\Bigr), \qquad t = 0, \dots, T

    Args:
        num_steps: number T of blocks.
        last: :math:`\bar\alpha_T`, below one because the losses are weighted by differences of
            :math:`\bar\alpha / (1 - \bar\alpha)`.

    Shape: a vector of T + 1 entries.

    Raises:
        ValueError: for no step, or ``last`` outside 0 to 1.

    Paper: NoProp: Training Neural Networks without Back-propagation or Forward-propagation -
    https://arxiv.org/abs/2503.24322

    Differs from the paper in how the cosine schedule ends: it is scaled to ``last`` (our choice), and starts
    at exactly zero, so that :math:`z_0` is the pure noise that inference starts from.

    >>> noprop_schedule(4).round(decimals=3)
    tensor([0.0000, 0.1450, 0.4950, 0.8450, 0.9900])
    """
    if num_steps < 1 or not 0 < last < 1:
        raise ValueError(
            f"expected num_steps >= 1 and 0 < last < 1, got num_steps={num_steps} and last={last}"
        )
    angles = torch.arange(num_steps + 1) * (math.pi / 2 / num_steps)
    return last * angles.sin() ** 2


@implements("noprop")
def noprop_coefficients(
    alpha_bar: Float[Tensor, "t"],
) -> tuple[Float[Tensor, "s"], Float[Tensor, "s"], Float[Tensor, "s"]]:
    r"""The weights of block t's estimate, of its input and of fresh noise in one step of inference.

    .. math:: z_t = a_t\, \hat u_t + b_t\, z_{t-1} + \sqrt{c_t}\, \epsilon, \qquad
        a_t = \frac{\sqrt{\bar\alpha_t}\,(1 - \alpha_{t-1})}{1 - \bar\alpha_{t-1}}, \quad
        b_t = \frac{\sqrt{\alpha_{t-1}}\,(1 - \bar\alpha_t)}{1 - \bar\alpha_{t-1}}, \quad
        c_t = \frac{(1 - \bar\alpha_t)(1 - \alpha_{t-1})}{1 - \bar\alpha_{t-1}}

    with :math:`\alpha_{t-1} = \bar\alpha_{t-1} / \bar\alpha_t`. If the estimate were the true label's
    embedding u, every :math:`z_t` would follow :math:`\mathcal N(\sqrt{\bar\alpha_t}\, u, 1 - \bar\alpha_t)`.

    Args:
        alpha_bar: :math:`\bar\alpha_0, \dots, \bar\alpha_T`, see :func:`noprop_schedule`.

    Shape: T + 1 entries to three vectors of T, for blocks 1 to T.

    Raises:
        ValueError: unless the entries rise strictly and stay from 0 to below 1.

    Paper: NoProp: Training Neural Networks without Back-propagation or Forward-propagation -
    https://arxiv.org/abs/2503.24322

    Time runs from noise to label; in diffusion papers, and in ``diffusers``, it runs the other way.

    >>> a, b, c = noprop_coefficients(torch.tensor([0.0, 0.5, 0.9]))
    >>> a.round(decimals=3), b.round(decimals=3), c.round(decimals=3)
    (tensor([0.7070, 0.8430]), tensor([0.0000, 0.1490]), tensor([0.5000, 0.0890]))
    """
    if len(alpha_bar) < 2 or alpha_bar[0] < 0 or alpha_bar[-1] >= 1 or (alpha_bar.diff() <= 0).any():
        raise ValueError(f"alpha_bar must rise strictly within 0 <= alpha_bar < 1, got {alpha_bar.tolist()}")
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    a = after.sqrt() * (1 - alpha) / (1 - before)
    b = alpha.sqrt() * (1 - after) / (1 - before)
    c = (1 - after) * (1 - alpha) / (1 - before)
    return a, b, c


@implements(
    "noprop", example=lambda: (NoPropBlock(6, 3, 4, hidden_dim=8), torch.randn(5, 3), torch.randn(5, 6))
)
class NoPropBlock(nn.Module):
    """One denoiser: from a noisy label and the clean input to class logits.

    Args:
        in_dim: width of the input.
        embed_dim: width of the label's embedding.
        num_classes: number of classes.
        hidden_dim: width of the two branches and of the layer that joins them.

    Shape: ``(b, embed_dim)`` and ``(b, in_dim)`` to ``(b, num_classes)``.

    Raises:
        ValueError: for a wrong last dimension of either input.

    Paper: NoProp: Training Neural Networks without Back-propagation or Forward-propagation -
    https://arxiv.org/abs/2503.24322

    Differs from the paper: the branch for the input is one linear layer where the paper has a small
    convolutional network, because the inputs here are vectors.

    >>> NoPropBlock(64, 10, 10)(torch.randn(2, 10), torch.randn(2, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(self, in_dim: int, embed_dim: int, num_classes: int, *, hidden_dim: int = 64) -> None:
        super().__init__()
        self.in_dim, self.embed_dim = in_dim, embed_dim
        self.read_input = nn.Sequential(nn.Linear(in_dim, hidden_dim), nn.ReLU())
        self.read_label = nn.Sequential(nn.Linear(embed_dim, hidden_dim), nn.ReLU())
        self.join = nn.Sequential(
            nn.Linear(2 * hidden_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, num_classes)
        )

    def forward(self, z: Float[Tensor, "b e"], x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        require_width(z, self.embed_dim, f"NoPropBlock with embed_dim={self.embed_dim}")
        require_width(x, self.in_dim, f"NoPropBlock with in_dim={self.in_dim}")
        return self.join(torch.cat([self.read_input(x), self.read_label(z)], dim=-1))


@implements("noprop")
class NoProp(nn.Module):
    r"""A classifier whose T blocks are trained apart: each guesses the label under its own level of noise.

    .. math:: L_t = \frac{T \eta}{2} \bigl(\mathrm{SNR}_t - \mathrm{SNR}_{t-1}\bigr)
        \bigl\| \hat u_t(z_{t-1}, x) - u_y \bigr\|^2, \qquad
        z_{t-1} \sim \mathcal N\bigl(\sqrt{\bar\alpha_{t-1}}\, u_y,\, (1 - \bar\alpha_{t-1}) I\bigr)

    with :math:`\mathrm{SNR} = \bar\alpha / (1 - \bar\alpha)` and :math:`\hat u` the mean of the label
    embeddings under the block's class probabilities. The noisy label is drawn, not computed by the blocks
    below, so the blocks could be trained in any order or on different machines. Only inference runs through
    the stack.

    Args:
        in_dim: width of the input.
        num_classes: number of classes.
        num_steps: number T of blocks.
        hidden_dim: width of each block.
        embed_dim: learn label embeddings of this width; without it they are fixed, one-hot.
        eta: weight of the denoising losses; it matters only against the other losses of a learned embedding.
        lr: learning rate of the AdamW of each block and of the one of the head.
        last_alpha_bar: share of signal at the end, see :func:`noprop_schedule`.

    Shape: ``(b, in_dim)`` to logits ``(b, num_classes)``; a forward pass draws noise, in evaluation too.

    Raises:
        ValueError: for a wrong last dimension or labels outside the classes.

    Paper: NoProp: Training Neural Networks without Back-propagation or Forward-propagation -
    https://arxiv.org/abs/2503.24322

    Differs from the paper: blocks for vectors (:class:`NoPropBlock`), and the schedule's two ends. Optimisers
    live in the object and are not part of ``state_dict``.

    >>> model = NoProp(4, 3, num_steps=2)
    >>> sorted(model.train_step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
    ['block_1', 'block_2', 'head']
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        num_steps: int = 10,
        hidden_dim: int = 64,
        embed_dim: int | None = None,
        eta: float = 0.1,
        lr: float = 1e-3,
        last_alpha_bar: float = 0.99,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_steps, self.eta = num_classes, num_steps, eta
        if embed_dim is None:
            self.register_buffer("embedding", torch.eye(num_classes))
        else:
            self.embedding = nn.Parameter(torch.randn(num_classes, embed_dim))
        width = self.embedding.shape[1]
        self.blocks = nn.ModuleList(
            NoPropBlock(in_dim, width, num_classes, hidden_dim=hidden_dim) for _ in range(num_steps)
        )
        self.head = nn.Linear(width, num_classes)
        self.register_buffer("alpha_bar", noprop_schedule(num_steps, last=last_alpha_bar))
        shared = [*self.head.parameters(), *([] if embed_dim is None else [self.embedding])]
        self.block_optimizers = [torch.optim.AdamW(block.parameters(), lr=lr) for block in self.blocks]
        self.shared_optimizer = torch.optim.AdamW(shared, lr=lr)

    def noisy_label(self, y: Int[Tensor, "b"], t: int) -> Float[Tensor, "b e"]:
        """Draw the label as block t + 1 will see it, without running any block."""
        u = self.embedding[y]
        return self.alpha_bar[t].sqrt() * u + (1 - self.alpha_bar[t]).sqrt() * torch.randn_like(u)

    def block_loss(self, t: int, x: Float[Tensor, "b d"], y: Int[Tensor, "b"]) -> Float[Tensor, ""]:
        """Loss of block t (counted from 1): weighted squared error of the embedding that it estimates."""
        estimate = self._estimate(self.blocks[t - 1](self.noisy_label(y, t - 1), x))
        snr = self.alpha_bar / (1 - self.alpha_bar)
        weight = self.num_steps / 2 * self.eta * (snr[t] - snr[t - 1])
        return weight * (estimate - self.embedding[y]).square().sum(-1).mean()

    def head_loss(self, y: Int[Tensor, "b"]) -> Float[Tensor, ""]:
        """Cross-entropy of the head on the last noisy label, and how far the first one is from pure noise."""
        first = self.alpha_bar[0]
        squared = self.embedding[y].square().sum(-1).mean()
        divergence = (first * squared - self.embedding.shape[1] * (first + torch.log1p(-first))) / 2
        return F.cross_entropy(self.head(self.noisy_label(y, self.num_steps)), y) + divergence

    def train_step(self, x: Float[Tensor, "b d"], y: Int[Tensor, "b"]) -> dict[str, float]:
        """One update of every block and of the head, each from its own loss; returns the losses."""
        self._require_labels(y)
        losses = {}
        self.shared_optimizer.zero_grad()
        for t, optimizer in enumerate(self.block_optimizers, 1):
            optimizer.zero_grad()
            loss = self.block_loss(t, x, y)
            loss.backward()
            optimizer.step()
            losses[f"block_{t}"] = loss.item()
        loss = self.head_loss(y)
        loss.backward()
        self.shared_optimizer.step()
        return {**losses, "head": loss.item()}

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Inference, from noise through all blocks; differentiable, so it can be trained end to end too."""
        return self.head(self._chain(x)[0])

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "b d"]) -> Int[Tensor, "b"]:
        """The most probable class at the end of the chain."""
        return self(x).argmax(-1)

    @torch.no_grad()
    def read_out(self, x: Float[Tensor, "b d"]) -> Int[Tensor, "t b"]:
        """The class that each block holds for the most probable, in one run of the chain."""
        return torch.stack([logits.argmax(-1) for logits in self._chain(x)[1]])

    def _chain(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        z = torch.randn(len(x), self.embedding.shape[1], dtype=x.dtype, device=x.device)
        all_logits = []
        for block, a, b, c in zip(self.blocks, *noprop_coefficients(self.alpha_bar), strict=True):
            logits = block(z, x)
            z = a * self._estimate(logits) + b * z + c.sqrt() * torch.randn_like(z)
            all_logits.append(logits)
        return z, all_logits

    def _estimate(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1) @ self.embedding

    def _require_labels(self, y: Tensor) -> None:
        if len(y) == 0 or y.min() < 0 or y.max() >= self.num_classes:
            raise ValueError(
                f"labels must lie in 0..{self.num_classes - 1} and not be empty, got {y.unique().tolist()}"
            )
