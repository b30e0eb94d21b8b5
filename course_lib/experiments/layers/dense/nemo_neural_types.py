"""A pipeline from sound to loss whose parts declare what they take and give."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from course_lib.layers.dense import ElementType, NeuralType, NeuralTypeError, typecheck


class Spectrogram(ElementType):
    """Loudness by frequency and time."""


class MelSpectrogram(Spectrogram):
    """The same on another scale of frequencies."""


class Named(ElementType):
    """Stands for a kind of numbers that is known by its name."""


Decibels, Noise, Encoded, Logits, Probs, LogProbs, Lengths = (
    type(name, (Named,), {})
    for name in ("Decibels", "Noise", "Encoded", "Logits", "Probs", "LogProbs", "Lengths")
)


@dataclass(frozen=True)
class Audio(ElementType):
    """Samples of sound."""

    rate: int = 8000


@dataclass(frozen=True)
class Labels(ElementType):
    """Class numbers of something."""

    of: str = "vowel"


class Typed(nn.Module):
    """A function with declared inputs and one declared output."""

    def __init__(self, function: Callable[..., Tensor], output: NeuralType, **inputs: NeuralType) -> None:
        super().__init__()
        self.function, self.input_types, self.output_types = function, inputs, {"y": output}

    @typecheck
    def forward(self, **inputs: Tensor) -> Tensor:
        return self.function(**inputs)


BT, BDT, BTC = ("batch", "time"), ("batch", "dimension", "time"), ("batch", "time", "channel")
SOUND, ANSWER = torch.sin(torch.arange(17 * 288.0).reshape(17, 288).square()), torch.arange(17)
SPECTRUM, SCORES = NeuralType(BDT, Spectrogram()), ("batch", "dimension")


def source(tensor: Tensor, axes: tuple[str, ...], element: ElementType) -> Typed:
    """A part without inputs."""
    return Typed(lambda: tensor, NeuralType(axes, element))


def spectrum(element: ElementType, *axes: str, bend: Callable[[Tensor], Tensor] = torch.abs) -> Typed:
    """Short-time spectra of 17 frequencies and 17 frames, with the axes in this order."""
    order, window = [BDT.index(axis) for axis in axes or BDT], torch.hann_window(32)
    transform = partial(torch.stft, n_fft=32, hop_length=16, window=window, center=False, return_complex=True)
    output = NeuralType(axes or BDT, element)
    return Typed(
        lambda audio: bend(transform(audio).abs()).permute(order), output, audio=NeuralType(BT, Audio())
    )


def encoder(*axes: str, bend: Callable[[Tensor], Tensor] = torch.relu) -> Typed:
    """17 channels for every frame, with the axes in this order."""
    order, weight = [BTC.index(axis) for axis in axes or BTC], torch.eye(17).cumsum(0) / 17
    output = NeuralType(axes or BTC, Encoded())
    return Typed(lambda spectrum: bend(spectrum.mT @ weight).permute(order), output, spectrum=SPECTRUM)


def pooling(function: Callable[..., Tensor], axes: tuple[str, ...] = SCORES) -> Typed:
    """Scores from all frames."""
    return Typed(function, NeuralType(axes, Logits()), encoded=NeuralType(BTC, Encoded()))


def normaliser(element: ElementType, function: Callable[..., Tensor]) -> Typed:
    """Something that scores become."""
    return Typed(function, NeuralType(SCORES, element), logits=NeuralType(SCORES, Logits()))


PARTS = {
    "speech": source(SOUND, BT, Audio()),
    "noise": source(0.1 * SOUND, BT, Noise()),
    "clean": Typed(
        lambda audio, noise: audio - noise,
        NeuralType(BT, Audio()),
        audio=NeuralType(BT, Audio()),
        noise=NeuralType(BT, Noise()),
    ),
    "spectrum": spectrum(Spectrogram()),
    "encode": encoder(),
    "pool": pooling(lambda encoded: encoded.mean(1)),
    "normalise": normaliser(LogProbs(), lambda logits: logits.log_softmax(-1)),
    "labels": source(ANSWER, ("batch",), Labels()),
    "loss": Typed(
        lambda logprobs, labels: nn.functional.nll_loss(logprobs, labels),
        NeuralType((), ElementType()),
        logprobs=NeuralType(SCORES, LogProbs()),
        labels=NeuralType(("batch",), Labels()),
    ),
}


def run_pipeline(*, exchange: str = "", skip: str = "", twice: str = "", **changed: Typed) -> Tensor:
    """Sound to loss with some parts changed, one left out or run twice, or two tensors exchanged."""
    part = {**PARTS, **changed}
    speech, noise = part["speech"](), part["noise"]()
    speech, noise = (noise, speech) if exchange == "inputs" else (speech, noise)
    x = speech if skip == "clean" else part["clean"](audio=speech, noise=noise)
    steps = (("spectrum", "audio"), ("encode", "spectrum"), ("pool", "encoded"), ("normalise", "logits"))
    for name, argument in steps:
        for _ in range(0 if name == skip else 2 if name == twice else 1):
            x = part[name](**{argument: x})
    y = part["labels"]()
    return part["loss"](logprobs=y, labels=x) if exchange == "targets" else part["loss"](logprobs=x, labels=y)


def pipeline_outcome(changes: dict) -> str:
    """What happens when the changed pipeline is run: "runs", "error" of torch, or "type error"."""
    try:
        run_pipeline(**changes)
    except NeuralTypeError:
        return "type error"
    except (RuntimeError, ValueError, IndexError, TypeError):
        return "error"
    return "runs"
