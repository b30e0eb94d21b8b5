"""The chapter's layers in one frame."""

from functools import partial

from torch import nn

from course_lib.compare.frames import Variant, compare, token_frame, vector_frame
from course_lib.layers.activation import PAU, PDELU, ActivatorBlock, BilinearMLP, KANLinear, TopKActivation
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import experiment

FRAME = vector_frame(64, activation=nn.Identity)
TOKENS = token_frame(32, activation=nn.Identity)
SIDE_BY_SIDE = [
    Variant("ReLU", nn.ReLU, symbol="torch.nn.ReLU", properties=("baseline", "pointwise", "sparse", "fixed")),
    Variant("Sigmoid", nn.Sigmoid, symbol="torch.nn.Sigmoid", properties=("pointwise", "fixed")),
    Variant("GELU", nn.GELU, symbol="torch.nn.GELU", properties=("pointwise", "fixed")),
    Variant("PDELU", PDELU, symbol="PDELU", properties=("pointwise", "learned")),
    Variant("PAU", PAU, symbol="PAU", properties=("pointwise", "learned")),
    Variant(
        "top 8 of 64", partial(TopKActivation, 8), symbol="TopKActivation", properties=("sparse", "fixed")
    ),
    Variant(
        "bilinear", partial(BilinearMLP, 64, 32), symbol="BilinearMLP", properties=("learned", "quadratic")
    ),
    Variant(
        "KAN", partial(KANLinear, 64, 64, num_basis=5), symbol="KANLinear", properties=("learned", "global")
    ),
    Variant(
        "attention block",
        partial(TransformerBlock, 32, 4, hidden_dim=96),
        symbol="TransformerBlock",
        properties=("baseline", "mixes positions", "input dependent"),
        frame=TOKENS,
    ),
    Variant(
        "Activator block",
        partial(ActivatorBlock, 32, 64),
        symbol="ActivatorBlock",
        properties=("pointwise", "equivariant"),
        frame=TOKENS,
    ),
]


@experiment(
    paper=("activation-survey", "lazy-neuron", "bilinear-layers", "activator-glu", "s-kan"),
    seeds=3,
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
