"""A batch in pieces at once equals the pieces one after the other: experiments on batches rest on it."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.experiments.layers.norm import IMAGE_NORMS, InPieces, ResidualCNN, digits_mlp
from course_lib.layers.norm import BatchNorm


class OneByOne(nn.Module):
    """The whole network on one piece after the other; statistics over a batch see the piece alone."""

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.model(x)
        return torch.cat([self.model(piece) for piece in x.split(self.size)])


NETWORKS = {name: (ResidualCNN, norm) for name, norm in IMAGE_NORMS.items()}
NETWORKS["vectors"] = (digits_mlp, BatchNorm)


@pytest.mark.parametrize("size", [2, 4, 12])
@pytest.mark.parametrize("name", NETWORKS)
def test_pieces_at_once_train_as_pieces_one_by_one(name, size):
    network, norm = NETWORKS[name]
    if name in ("bn_relu", "evonorm_b0", "vectors"):
        at_once = network(lambda channels: InPieces(norm, channels, batch_size=12, size=size)).double()
    else:
        at_once = network(norm).double()  # it sees no pieces: the same layer serves for both
    one_by_one = OneByOne(network(norm).double(), size)
    state = {key.replace(".norm.norm.", ".norm."): value for key, value in at_once.state_dict().items()}
    own = one_by_one.model.state_dict()
    one_by_one.model.load_state_dict(dict(zip(own, state.values(), strict=True)))
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (at_once, one_by_one)]
    for _ in range(3):
        x, y = torch.randn(12, 1, 8, 8).double(), torch.randint(10, (12,))
        outputs = [model(x) for model in (at_once, one_by_one)]
        torch.testing.assert_close(*outputs)
        for output, optimizer in zip(outputs, optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(output, y).backward()
            optimizer.step()
    for mine, theirs in zip(at_once.state_dict().values(), own.values(), strict=True):
        if mine.ndim:  # the counts of batches differ: nothing reads them
            torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(at_once.eval()(x), one_by_one.eval()(x))


def test_pieces_change_what_a_batch_norm_gives():
    norm = InPieces(BatchNorm, 3, batch_size=4, size=2)
    x = torch.randn(4, 3)
    whole = copy.deepcopy(norm.norm)
    assert (norm(x) - whole(x)).abs().max() > 0.1
    torch.testing.assert_close(norm(x)[:2], whole(x[:2]))
