"""NoProp: every block learns alone to clean a noisy label; in training no pass runs through the stack."""

import math
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from course_lib.layers._shapes import layer_name, require_number, require_positive, require_width
from course_lib.registry import implements
from course_lib.training.local_learning._checks import following, require_labels, require_rows
from course_lib.training.loop import fused


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
    require_positive("noprop_schedule", num_steps=num_steps)
    _require_inside("noprop_schedule", last=last)
    angles = torch.arange(num_steps + 1) * (math.pi / 2 / num_steps)
    return last * angles.sin() ** 2


def _require_inside(layer: str, **share: float) -> None:
    """Raise unless the number lies between 0 and 1, neither included."""
    require_number(layer, 0, 1, open_low=True, **share)
    ((name, value),) = share.items()
    if value == 1:
        raise ValueError(
            f"{layer}: {name} must be below 1, got {value}; the signal-to-noise ratio is infinite"
        )


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
        raise ValueError(
            "noprop_coefficients: alpha_bar must rise strictly within 0 <= alpha_bar < 1, got "
            f"{alpha_bar.tolist()}"
        )
    return _coefficients(alpha_bar)


def _coefficients(alpha_bar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
        in_features: width of the input.
        embed_dim: width of the label's embedding.
        num_classes: number of classes.
        hidden_dim: width of the two branches and of the layer that joins them.
        device, dtype: of the parameters, as in torch.

    Shape: ``(b, embed_dim)`` and ``(b, in_features)`` to ``(b, num_classes)``.

    Raises:
        ValueError: for a size below 1, or a wrong last dimension of either input.
        TypeError: for arguments and inputs of another type.

    Paper: NoProp: Training Neural Networks without Back-propagation or Forward-propagation -
    https://arxiv.org/abs/2503.24322

    Differs from the paper: the branch for the input is one linear layer where the paper has a small
    convolutional network, because the inputs here are vectors.

    >>> NoPropBlock(64, 10, 10)(torch.randn(2, 10), torch.randn(2, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_features: int,
        embed_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, in_features=in_features, embed_dim=embed_dim)
        require_positive(name, num_classes=num_classes, hidden_dim=hidden_dim)
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.embed_dim, self.num_classes = in_features, embed_dim, num_classes
        self.read_input = nn.Sequential(nn.Linear(in_features, hidden_dim, **factory), nn.ReLU())
        self.read_label = nn.Sequential(nn.Linear(embed_dim, hidden_dim, **factory), nn.ReLU())
        self.join = nn.Sequential(
            nn.Linear(2 * hidden_dim, hidden_dim, **factory),
            nn.ReLU(),
            nn.Linear(hidden_dim, num_classes, **factory),
        )

    def forward(self, z: Float[Tensor, "b e"], x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        require_width(z, self.embed_dim, self, name="z")
        require_width(x, self.in_features, self)
        if not isinstance(x, Proxy) and x.shape[:-1] != z.shape[:-1]:
            raise ValueError(
                f"{layer_name(self)} expects as many rows of z as of x, got shapes {tuple(z.shape)} and "
                f"{tuple(x.shape)}"
            )
        return self.join(torch.cat([self.read_input(x), self.read_label(z)], dim=-1))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, embed_dim={self.embed_dim}, num_classes={self.num_classes}"


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
        in_features: width of the input.
        num_classes: number of classes.
        num_steps: number T of blocks.
        hidden_dim: width of each block.
        embed_dim: learn label embeddings of this width; without it they are fixed, one-hot.
        eta: weight of the denoising losses; it matters only against the other losses of a learned embedding.
        lr: learning rate of the AdamW of each block and of the one of the head.
        last_alpha_bar: share of signal at the end, see :func:`noprop_schedule`.
        device, dtype: of the parameters, as in torch.

    Shape: ``(b, in_features)`` to logits ``(b, num_classes)``; a forward pass draws noise, in evaluation too.

    Raises:
        ValueError: for a size below 1, a negative rate or weight, a share outside 0 to 1, or a wrong last
            dimension; when trained, also for rows that are none or not finite and labels that are no classes.
            The network is as it was then.
        TypeError: for arguments of another type, and inputs of another dtype than the parameters.

    Paper: NoProp: Training Neural Networks without Back-propagation or Forward-propagation -
    https://arxiv.org/abs/2503.24322

    No code of the authors was found, so this is made from the paper's formulas. Known differences, which need
    not be all: blocks for vectors, without convolutions and normalisation (:class:`NoPropBlock`); the
    schedule's two ends; the head learns in every step beside the blocks, by an optimiser of its own.
    Optimisers live in the object and are not part of ``state_dict``.

    >>> model = NoProp(4, 3, num_steps=2)
    >>> sorted(model.train_step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
    ['block_1', 'block_2', 'head']
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        num_steps: int = 10,
        hidden_dim: int = 64,
        embed_dim: int | None = None,
        eta: float = 0.1,
        lr: float = 1e-3,
        last_alpha_bar: float = 0.99,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        width = num_classes if embed_dim is None else embed_dim
        require_positive(name, in_features=in_features, num_classes=num_classes, num_steps=num_steps)
        require_positive(name, hidden_dim=hidden_dim, embed_dim=width)
        require_number(name, 0, eta=eta, lr=lr)
        _require_inside(name, last_alpha_bar=last_alpha_bar)
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.num_classes = in_features, num_classes
        self.num_steps, self.eta, self.last_alpha_bar = num_steps, eta, last_alpha_bar
        embedding = torch.empty(num_classes, width, **factory)
        if embed_dim is None:
            self.register_buffer("embedding", embedding)
        else:
            self.embedding = nn.Parameter(embedding)
        self.register_buffer("alpha_bar", torch.empty(num_steps + 1, **factory))
        self.reset_parameters()
        self.blocks = nn.ModuleList(
            NoPropBlock(in_features, width, num_classes, hidden_dim=hidden_dim, **factory)
            for _ in range(num_steps)
        )
        self.head = nn.Linear(width, num_classes, **factory)
        self._make_optimizer = partial(fused, torch.optim.AdamW, lr=lr)
        self.block_optimizers = [self._make_optimizer(block.parameters()) for block in self.blocks]
        self.shared_optimizer = self._make_optimizer(self._shared())

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The schedule, and the embedding: one-hot, or standard normal where it is learned."""
        if isinstance(self.embedding, nn.Parameter):
            nn.init.normal_(self.embedding)
        else:
            nn.init.eye_(self.embedding)
        self.alpha_bar.copy_(noprop_schedule(self.num_steps, last=self.last_alpha_bar))

    def _shared(self) -> list[nn.Parameter]:
        """What no block owns: the head, and a learned embedding."""
        learned = [self.embedding] if isinstance(self.embedding, nn.Parameter) else []
        return [*self.head.parameters(), *learned]

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
        require_rows(x, self.in_features, self, self.head.weight)
        require_labels(y, self.num_classes, len(x), self)
        self._follow()
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
        require_width(x, self.in_features, self)
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
        for block, a, b, c in zip(self.blocks, *_coefficients(self.alpha_bar), strict=True):
            logits = block(z, x)
            z = a * self._estimate(logits) + b * z + c.sqrt() * torch.randn_like(z)
            all_logits.append(logits)
        return z, all_logits

    def _estimate(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1) @ self.embedding

    def _follow(self) -> None:
        """The optimisers step the parameters that are there now."""
        self.block_optimizers = [
            following(optimizer, block.parameters(), self._make_optimizer)
            for optimizer, block in zip(self.block_optimizers, self.blocks, strict=True)
        ]
        self.shared_optimizer = following(self.shared_optimizer, self._shared(), self._make_optimizer)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.num_classes}, num_steps={self.num_steps}"
