"""What the tests of attention share: gradients of a whole layer, and torch's layer with our weights."""

import torch
from torch import nn

from tests.oracles import cotangent


def layer_gradients(layer, *inputs):
    """Output of a layer, then the gradients of its inputs and of its parameters by name."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = layer(*inputs)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    gradients = torch.autograd.grad(y, [*inputs, *parameters], cotangent(y))
    return y.detach(), gradients[: len(inputs)], dict(zip(names, gradients[len(inputs) :], strict=True))


def randomise(layer):
    """Give every parameter, biases included, values of its own: zeros hide mistakes."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.double().eval()


@torch.no_grad()
def as_torch(layer):
    """``torch.nn.MultiheadAttention`` with the weights of our layer; shared key and value heads are repeated.

    The keys get a random bias, which ours lack: the softmax cancels it.
    """
    heads, width = layer.num_heads, layer.head_dim
    peer = nn.MultiheadAttention(layer.dim, heads, batch_first=True, dtype=torch.float64)

    def per_head(part):
        blocks = part.unflatten(0, (-1, width))
        return blocks.repeat_interleave(heads // len(blocks), dim=0).flatten(0, 1)

    weights = [layer.query.weight, per_head(layer.key.weight), per_head(layer.value.weight)]
    biases = [layer.query.bias, torch.randn(layer.dim).double(), per_head(layer.value.bias)]
    peer.in_proj_weight.copy_(torch.cat(weights))
    peer.in_proj_bias.copy_(torch.cat(biases))
    peer.out_proj.load_state_dict(layer.out.state_dict())
    return peer
