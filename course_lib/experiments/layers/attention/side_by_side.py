"""All variants of layers/attention in one frame."""

from course_lib.compare.frames import Variant, compare, token_frame
from course_lib.layers.attention import (
    AllAttention,
    DualAttention,
    GroupedQueryAttention,
    Hopfield,
    HopfieldLookup,
    LabelAttention,
    LambdaLayer,
    MultiHeadAttention,
    MultiQueryAttention,
    SubsampledAttention,
)
from course_lib.measure import experiment

FRAME = token_frame(dim=32)


GLOBAL = ("learned", "global", "input dependent")


SIDE_BY_SIDE = [
    Variant("multi-head", lambda: MultiHeadAttention(32, 4), "MultiHeadAttention", ("baseline", *GLOBAL)),
    Variant("grouped-query", lambda: GroupedQueryAttention(32, 4, 2), "GroupedQueryAttention", GLOBAL),
    Variant("multi-query", lambda: MultiQueryAttention(32, 4), "MultiQueryAttention", GLOBAL),
    Variant("Hopfield", lambda: Hopfield(32, 4), "Hopfield", GLOBAL),
    Variant(
        "Hopfield lookup",
        lambda: HopfieldLookup(32, 4, 16),
        "HopfieldLookup",
        ("learned", "pointwise"),
    ),
    Variant("all-attention", lambda: AllAttention(32, 4, 16), "AllAttention", GLOBAL),
    Variant("label attention", lambda: LabelAttention(32, 10, 8), "LabelAttention", GLOBAL),
    Variant("dual attention", lambda: DualAttention(32, 2, 2), "DualAttention", GLOBAL),
    Variant("lambda layer", lambda: LambdaLayer(32, 4, grid=(4, 4), key_dim=8), "LambdaLayer", GLOBAL),
    Variant(
        "subsampled", lambda: SubsampledAttention(32, 4, 2), "SubsampledAttention", (*GLOBAL, "stochastic")
    ),
]


@experiment(
    paper=(
        "multi-query-attention",
        "modern-hopfield",
        "all-attention-persistent-memory",
        "label-attention-layer",
        "dual-attention-transformer",
        "lambda-networks",
        "stochastically-subsampled-attention",
    ),
    seeds=3,
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every kind of attention, as token mixer in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
