"""Weights of other people's attention layers and transformer blocks, under the names that ours have."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.norm import TransformerBlock

# A pattern for their name, and ours; None leaves it out. The first that fits counts.
_TORCH_ATTENTION = {
    r"in_proj_weight": ("query.weight", "key.weight", "value.weight"),
    r"in_proj_bias": ("query.bias", None, "value.bias"),  # the softmax cancels a bias of the keys
    r"out_proj\.(weight|bias)": r"out.\1",
}
_TIMM_ATTENTION = {
    r"qkv\.weight": ("query.weight", "key.weight", "value.weight"),
    r"qkv\.bias": ("query.bias", None, "value.bias"),
    r"proj\.(weight|bias)": r"out.\1",
}
_TORCH_BLOCK = {
    **{rf"self_attn\.{theirs}": ours for theirs, ours in _TORCH_ATTENTION.items()},
    r"linear1\.(weight|bias)": r"first.\1",
    r"linear2\.(weight|bias)": r"second.\1",
    r"norm([12])\.(weight|bias)": r"norm\1.\2",
}
_TIMM_BLOCK = {
    **{rf"attn\.{theirs}": ours for theirs, ours in _TIMM_ATTENTION.items()},
    r"mlp\.fc1\.(weight|bias)": r"first.\1",
    r"mlp\.fc2\.(weight|bias)": r"second.\1",
    r"norm([12])\.(weight|bias)": r"norm\1.\2",
}


def foreign_state(layer: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a layer of torch or timm as a state of ours, for ``layer.load_state_dict``.

    ============================================  ===================================================
    theirs                                        ours
    ============================================  ===================================================
    ``torch.nn.MultiheadAttention``,              :class:`~course_lib.layers.attention.MultiHeadAttention`
    timm's ``Attention``
    ``torch.nn.TransformerEncoderLayer``,         :class:`~course_lib.layers.norm.TransformerBlock`
    timm's ``Block`` of vision transformers
    ============================================  ===================================================

    Their one matrix for q, k and v is cut in three. Their bias of the keys is left out: it adds the same to
    all scores of a query, and the softmax cancels it. What no weight tells must agree: the number of heads,
    the activation, ``eps`` of the norms (1e-6 in timm's vision transformers), the placement of the norms
    (torch's is "post" unless ``norm_first``, timm's is "pre"), the causal mask.

    Args:
        layer: ours, of the same sizes; it is left as it is.
        state: of theirs.

    Raises:
        ValueError: for a name in ``state`` that has no place in ours (norms of queries and keys, layer scale,
            keys of another width), or a place in ours that it leaves empty.
        TypeError: for a layer that is neither of the two, or a state that is none.

    >>> import torch
    >>> theirs, ours = nn.MultiheadAttention(8, 2, batch_first=True), MultiHeadAttention(8, 2)
    >>> _ = ours.load_state_dict(foreign_state(ours, theirs.state_dict()))
    >>> x = torch.randn(3, 5, 8)
    >>> torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)
    True
    """
    _require_state(state)
    if isinstance(layer, TransformerBlock):
        places = {"first": "mlp.mixer.0", "second": "mlp.mixer.2", **_norm_places(layer)}
        prefix, tables = "attention.mixer.", (_TORCH_BLOCK, _TIMM_BLOCK)
    elif isinstance(layer, MultiHeadAttention):
        places, prefix, tables = {}, "", (_TORCH_ATTENTION, _TIMM_ATTENTION)
    else:
        raise TypeError(
            "foreign_state fills MultiHeadAttention and TransformerBlock, the first argument; "
            f"got {type(layer).__name__}"
        )
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for ours, part in _renamed(name, tensor, tables):
            place, _, kind = ours.rpartition(".")
            found[f"{places[place]}.{kind}" if place in places else f"{prefix}{ours}"] = part
    missing = sorted(layer.state_dict().keys() - found)
    if missing or found.keys() - layer.state_dict().keys():
        extra = sorted(found.keys() - layer.state_dict().keys())
        raise ValueError(
            f"{type(layer).__name__} is built otherwise: nothing for {missing}, no place for {extra}"
        )
    return found


def _require_state(state: object) -> None:
    if not isinstance(state, Mapping):
        raise TypeError(
            f"foreign_state takes our layer and then the state of theirs, got {type(state).__name__}"
            + " for the state: write .state_dict() behind it" * isinstance(state, nn.Module)
        )


def _norm_places(block: TransformerBlock) -> dict[str, str]:
    where = {"pre": "norm_in", "post": "norm_sum"}.get(block.attention.norm)
    if where is None:
        raise ValueError(f"a block of torch or timm has norms 'pre' or 'post', not {block.attention.norm!r}")
    return {"norm1": f"attention.{where}", "norm2": f"mlp.{where}"}


def _renamed(name: str, tensor: Tensor, tables: tuple[Mapping, ...]) -> list[tuple[str, Tensor]]:
    for table in tables:
        for theirs, ours in table.items():
            match = re.fullmatch(theirs, name)
            if match is None:
                continue
            if isinstance(ours, str):
                return [(match.expand(ours), tensor)]
            return [(part, cut) for part, cut in zip(ours, tensor.chunk(3), strict=True) if part]
    raise ValueError(f"no place for {name!r} {tuple(tensor.shape)} in a layer of ours")
