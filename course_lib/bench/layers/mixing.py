"""Token mixers against timm and snntorch, and the spiral against the sparse convolution that it is."""

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.compare import Case, Contest
from course_lib.layers.mixing import LIFNeuron, MixerBlock, PoolMixer, SpiralFC

__all__ = ["CASES"]


def pooling(side: int) -> Contest:
    """16 images of 32 channels."""
    from timm.models.metaformer import Pooling

    return Contest(PoolMixer(), {"timm Pooling": Pooling(3)}, (torch.randn(16, 32, side, side),))


def mixer_block(tokens: int) -> Contest:
    """8 images, 64 channels, a token MLP as wide as the tokens."""
    from timm.models.mlp_mixer import MixerBlock as Peer

    ours = MixerBlock(tokens, 64, token_hidden_dim=tokens, hidden_dim=128)
    peer = Peer(64, tokens, mlp_ratio=(tokens / 64, 2.0), norm_layer=nn.LayerNorm)
    with torch.no_grad():
        for p, q in zip(ours.parameters(), peer.parameters(), strict=True):
            q.copy_(p)
    return Contest(ours, {"timm MixerBlock": peer}, (torch.randn(8, tokens, 64),))


def spiral(channels: int) -> Contest:
    """8 images of 16 x 16 pixels; the peer is one 7 x 7 convolution with one tap per input channel."""
    ours = SpiralFC(channels, channels, reach=3, period=8)
    kernel = torch.zeros(channels, channels, 7, 7)
    for c, (down, right) in enumerate(ours.offsets.tolist()):
        kernel[:, c, 3 + down, 3 + right] = ours.linear.weight[:, c, 0, 0].detach()
    bias = ours.linear.bias.detach()
    x = torch.randn(8, channels, 16, 16)
    return Contest(ours, {"torch conv2d, 7 x 7": lambda x: F.conv2d(x, kernel, bias, padding=3)}, (x,))


def neurons(steps: int) -> Contest:
    """64 rows of 64 neurons, with snntorch's surrogate of the same slope; forwards only."""
    import snntorch
    from snntorch import surrogate

    layer = snntorch.Leaky(
        beta=0.5, reset_mechanism="zero", reset_delay=False, spike_grad=surrogate.sigmoid(slope=4)
    )

    def peer(x):
        membrane, spikes = torch.zeros_like(x[:, 0]), []
        for current in x.unbind(1):
            fired, membrane = layer(current / 2, membrane)
            spikes.append(fired)
        return torch.stack(spikes, 1)

    return Contest(LIFNeuron(), {"snntorch.Leaky": peer}, (2 * torch.randn(64, steps, 64),), backward=False)


CASES = [
    Case("PoolMixer", pooling, sizes=(8, 16, 32), axis="side"),
    Case("MixerBlock", mixer_block, sizes=(16, 64, 196), axis="tokens"),
    Case("SpiralFC", spiral, sizes=(16, 32, 64), axis="channels"),
    Case("LIFNeuron", neurons, sizes=(4, 16, 64), axis="steps"),
]
