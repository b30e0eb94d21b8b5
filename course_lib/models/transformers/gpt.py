"""A decoder-only language model around any list of blocks, and how it writes.

Letters in shapes: b batch, t time, s all tokens so far, d width, v vocabulary.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.fx import Proxy

from course_lib.layers._shapes import (
    layer_name,
    require_at_least,
    require_module,
    require_number,
    require_positive,
)
from course_lib.layers.attention import KVCache
from course_lib.layers.attention.cache import Cache, unchanged_on_error
from course_lib.layers.norm import LayerNorm
from course_lib.models.transformers._blocks import module_list, takes


class GPT(nn.Module):
    r"""A decoder-only language model around your blocks.

    .. math:: \text{logits} = W_{\mathrm{out}}\, N(\text{blocks}(E_{x_t} + P_t))

    Beside the tokens, ``forward`` takes a ``mask`` ``(b, s)``, True for tokens and False for padding on the
    left, and a ``cache``, one for each block (:meth:`new_cache`); then
    the tokens are those that follow, and s counts those in the cache too.

    Args:
        vocab_size: number of tokens v.
        dim: width d of the residual stream.
        blocks: causal modules from ``(b, t, d)`` to ``(b, t, d)``, applied in order.
        max_length: longest sequence, the number of learned positions.
        embed_norm: applied to the embedding; Peri-LN asks for one. None: no norm.
        final_norm: before the output matrix. None: a LayerNorm; ``nn.Identity()`` leaves it out.
        device: of all parameters but those of your blocks and norms.
        dtype: of all parameters but those of your blocks and norms.

    Shape: token ids ``(b, t)`` to logits ``(b, t, v)``.

    Raises:
        ValueError: for a sequence longer than ``max_length``, a token outside the vocabulary (on a GPU torch
            stops the process instead), a mask of another shape, caches that do not fit the blocks, or blocks
            that take no mask or cache.
        TypeError: for sizes, blocks or tokens of another type.

    >>> GPT(65, 8, [nn.Identity()], max_length=16)(torch.zeros(2, 5, dtype=torch.long)).shape
    torch.Size([2, 5, 65])
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        blocks: Iterable[nn.Module],
        *,
        max_length: int,
        embed_norm: nn.Module | None = None,
        final_norm: nn.Module | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, vocab_size=vocab_size, dim=dim, max_length=max_length)
        self.vocab_size, self.dim, self.max_length = vocab_size, dim, max_length
        self.token = nn.Embedding(vocab_size, dim, **factory)
        self.position = nn.Embedding(max_length, dim, **factory)
        self.embed_norm = nn.Identity() if embed_norm is None else embed_norm
        self.blocks = module_list(name, blocks)
        self.final_norm = LayerNorm(dim, **factory) if final_norm is None else final_norm
        require_module(name, embed_norm=self.embed_norm, final_norm=self.final_norm)
        self.out = nn.Linear(dim, vocab_size, bias=False, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """GPT-2's start, see :func:`gpt2_init_`."""
        gpt2_init_(self)

    def new_cache(self) -> list[Cache]:
        """An empty cache for every block: keys and values for attention, a state for a recurrent layer."""
        return [block.new_cache() if hasattr(block, "new_cache") else KVCache() for block in self.blocks]

    def takes(self, option: str) -> bool:
        """Whether every block's forward has an argument of this name, such as ``cache``."""
        return all(takes(block, option) for block in self.blocks)

    def embed(
        self, tokens: Int[Tensor, "b t"], *, positions: Int[Tensor, "..."] | None = None
    ) -> Float[Tensor, "b t d"]:
        """The residual stream that enters the first block; positions count from 0 unless given."""
        self._require_tokens(tokens)
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
        try:
            embedded = self.token(tokens)
        except IndexError:
            raise ValueError(
                f"{layer_name(self)} knows the tokens from 0 to {self.vocab_size - 1}, got tokens from "
                f"{tokens.min()} to {tokens.max()}"
            ) from None
        return self.embed_norm(embedded + self.position(positions))

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        *,
        mask: Bool[Tensor, "b s"] | None = None,
        cache: Sequence[Cache] | None = None,
    ) -> Float[Tensor, "b t v"]:
        if mask is None and cache is None:
            x = self.embed(tokens)
            for block in self.blocks:
                x = block(x)
            return self.out(self.final_norm(x))
        caches = [] if cache is None else list(cache)
        past = self._require_options(tokens, mask, caches)
        if mask is None:
            positions = torch.arange(past, past + tokens.shape[1], device=tokens.device)
            options = {}
        else:
            positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, past:]  # padding does not count
            options = {"mask": mask[:, None, None, :]}
        x = self.embed(tokens, positions=positions)
        with unchanged_on_error(*caches):
            for i, block in enumerate(self.blocks):
                x = block(x, **options, **({"cache": caches[i]} if caches else {}))
        return self.out(self.final_norm(x))

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "b t"],
        max_new_tokens: int,
        *,
        greedy: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        stop_token: int | None = None,
        mask: Bool[Tensor, "b t"] | None = None,
        use_cache: bool = True,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "b u"]:
        r"""Append new tokens, each drawn from what the model expects after all tokens before it.

        .. math:: p(x) \propto \exp(\text{logit}_x / \tau) \quad \text{for the } k \text{ largest logits}

        The model runs in the mode it is in: call ``.eval()`` first if it has dropout. Beyond ``max_length``
        it sees the last ``max_length`` tokens, whose positions all change with every new one, so that each
        step takes a full pass.

        Args:
            tokens: the prompts, at least one token each.
            max_new_tokens: how many to append at most.
            greedy: take the likeliest token instead of drawing one.
            temperature: :math:`\tau`; below 1 the likely tokens become likelier still.
            top_k: k; None for the whole vocabulary.
            stop_token: a row that has drawn it is filled up with it; once all have, generation ends.
            mask: False for padding, which stands on the left: the last token of every prompt is a token.
            use_cache: keep keys and values, where all blocks can; the result is the same.
            generator: of the random numbers.

        Raises:
            ValueError: for prompts that are empty, too long a padding or padding on the right, a temperature
                that is not positive (take ``greedy=True``), or a ``top_k`` or ``stop_token`` outside the
                vocabulary.
            TypeError: for arguments of another type.

        >>> model = GPT(65, 8, [nn.Identity()], max_length=16)
        >>> model.generate(torch.zeros(2, 3, dtype=torch.long), 4, top_k=5).shape
        torch.Size([2, 7])
        """
        mask = self._require_generation(tokens, max_new_tokens, temperature, top_k, stop_token, mask)
        cache = self.new_cache() if use_cache and len(self.blocks) and self.takes("cache") else None
        done = torch.zeros(len(tokens), 1, dtype=torch.bool, device=tokens.device)
        for _ in range(max_new_tokens):
            logits = self._next_logits(tokens, mask, cache)
            new = logits.argmax(-1, keepdim=True) if greedy else _draw(logits, temperature, top_k, generator)
            if stop_token is not None:
                new = new.masked_fill(done, stop_token)
                done = done | (new == stop_token)
            tokens = torch.cat([tokens, new.to(tokens.dtype)], dim=1)
            if mask is not None:
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            if stop_token is not None and done.all():
                break
        return tokens

    def _next_logits(
        self, tokens: Tensor, mask: Tensor | None, cache: list[Cache] | None
    ) -> Float[Tensor, "b v"]:
        """Logits after the last token, from all tokens or from those that the cache lacks."""
        if cache is None or tokens.shape[1] > self.max_length:
            window = None if mask is None else mask[:, -self.max_length :]
            return self(tokens[:, -self.max_length :], mask=window)[:, -1]
        return self(tokens[:, len(cache[0]) :], mask=mask, cache=cache)[:, -1]

    def _require_tokens(self, tokens: Tensor) -> None:
        if isinstance(tokens, Proxy):
            return
        if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int32, torch.int64):
            seen = getattr(tokens, "dtype", type(tokens).__name__)
            raise TypeError(f"{layer_name(self)} expects tokens of int64, got {seen}")
        if tokens.device != self.token.weight.device:
            raise ValueError(
                f"{layer_name(self)} is on {self.token.weight.device}, tokens are on {tokens.device}"
            )
        if tokens.ndim != 2:
            raise ValueError(f"{layer_name(self)} expects tokens (b, t), got shape {tuple(tokens.shape)}")
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"{layer_name(self)}: {tokens.shape[1]} tokens exceed max_length={self.max_length}; crop, "
                "or build it longer"
            )

    def _require_options(self, tokens: Tensor, mask: Tensor | None, caches: list[Cache]) -> int:
        """The number of tokens in the caches, once mask and caches have been found to fit."""
        self._require_tokens(tokens)
        name = layer_name(self)
        for option in ("mask",) * (mask is not None) + ("cache",) * bool(caches):
            for block in self.blocks:
                if not takes(block, option):
                    raise ValueError(f"{name}: its {type(block).__name__} takes no {option}")
        lengths = {len(cache) for cache in caches}
        if caches and (len(caches) != len(self.blocks) or len(lengths) != 1):
            raise ValueError(
                f"{name} needs one cache for each of its {len(self.blocks)} blocks, all of one length; got "
                f"{len(caches)} of lengths {sorted(lengths)}; take those of new_cache()"
            )
        past = next(iter(lengths), 0)
        if past + tokens.shape[1] > self.max_length:
            raise ValueError(
                f"{past} tokens in the cache and {tokens.shape[1]} new ones exceed max_length="
                f"{self.max_length}; crop, or build it longer"
            )
        if mask is not None:
            _require_padding(name, mask, (len(tokens), past + tokens.shape[1]))
        return past

    def _require_generation(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        temperature: float,
        top_k: int | None,
        stop_token: int | None,
        mask: Tensor | None,
    ) -> Tensor | None:
        """The mask, or None where nothing is padding."""
        name = f"{type(self).__name__}.generate"
        self._require_tokens(tokens[..., -self.max_length :] if isinstance(tokens, Tensor) else tokens)
        if not tokens.numel():
            raise ValueError(f"{name}: a prompt needs at least one token, got shape {tuple(tokens.shape)}")
        require_at_least(0, name, max_new_tokens=max_new_tokens)
        require_number(name, 0, open_low=True, temperature=temperature)
        if top_k is not None:
            require_positive(name, top_k=top_k)
            if top_k > self.vocab_size:
                raise ValueError(f"{name}: top_k={top_k} exceeds the vocabulary of {self.vocab_size} tokens")
        if stop_token is not None:
            require_at_least(0, name, stop_token=stop_token)
            if stop_token >= self.vocab_size:
                raise ValueError(f"{name}: stop_token={stop_token} is none of {self.vocab_size} tokens")
        if mask is None:
            return None
        _require_padding(name, mask, tuple(tokens.shape))
        if not mask[:, -1].all() or (mask[:, :-1] & ~mask[:, 1:]).any():
            raise ValueError(
                f"{name}: padding must stand on the left, each row of mask False first, then True"
            )
        return None if mask.all() else mask

    def extra_repr(self) -> str:
        return f"vocab_size={self.vocab_size}, dim={self.dim}, max_length={self.max_length}"


@torch.no_grad()
def gpt2_init_(model: GPT) -> GPT:
    r"""GPT-2's start: weights normal with deviation 0.02, biases zero, and every matrix that writes into the
    residual stream divided by :math:`\sqrt{2L}` for L blocks.

    A matrix writes into the stream if it is the last linear layer of a residual sublayer of the block.

    >>> model = gpt2_init_(GPT(65, 64, [nn.Identity()], max_length=16))
    >>> round(model.out.weight.std().item(), 2)
    0.02
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0.0, 0.02)
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
    for block in model.blocks:
        for sublayer in (m for m in block.modules() if hasattr(m, "norm_sum")):
            writers = [m for m in sublayer.modules() if isinstance(m, nn.Linear)]
            if writers:
                writers[-1].weight.div_(math.sqrt(2 * len(model.blocks)))
    return model


def _draw(
    logits: Float[Tensor, "b v"], temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Int[Tensor, "b 1"]:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature  # the largest is 0: nothing overflows
    if top_k is None:
        return torch.multinomial(scaled.softmax(-1), 1, generator=generator)
    largest, places = scaled.topk(top_k)
    return places.gather(-1, torch.multinomial(largest.softmax(-1), 1, generator=generator))


def _require_padding(layer: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"{layer}: mask must be a tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise ValueError(
            f"{layer}: mask must be bool, True for tokens and False for padding, got {mask.dtype}; for ones "
            "and zeros take mask.bool()"
        )
    if mask.shape != shape:
        raise ValueError(
            f"{layer}: mask must be {shape}, one entry for every token so far, got {tuple(mask.shape)}"
        )
