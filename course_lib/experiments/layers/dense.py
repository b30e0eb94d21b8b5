"""The trained claims of layers/dense. Each function trains for one seed and returns a few numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from course_lib.compare.frames import Frame, Variant, compare
from course_lib.data import load
from course_lib.data.mnist1d import make_mnist1d
from course_lib.layers.dense import (
    ElementType,
    InvertedBottleneckBlock,
    InvertedBottleneckMLP,
    NeuralType,
    NeuralTypeError,
    ParametricSpan,
    SpanLegs,
    bias_span,
    conv2d_span,
    generate_type_equivalent,
    io_signature,
    squared_hinge_loss,
    typecheck,
)
from course_lib.measure import experiment
from course_lib.training.hooks import EarlyStopping
from course_lib.training.loop import evaluate, fit

# -- Removing edges and tying weights --------------------------------------------------------------

CONV = conv2d_span((8, 8), 1, 8, (3, 3), padding=1)


def _layer(legs: SpanLegs, places: int = 1) -> nn.Module:
    return ParametricSpan(legs, bias=bias_span(legs.sizes[1], places))


def local_legs() -> SpanLegs:
    """The edges of a convolution, each with a weight of its own."""
    inputs, outputs, _ = CONV.sizes
    return SpanLegs((inputs, outputs, CONV.edges), CONV.source, CONV.target, torch.arange(CONV.edges))


def scattered_legs() -> SpanLegs:
    """As many edges into every output as a convolution has, from inputs drawn at random, with own weights."""
    legs = local_legs()
    elsewhere = torch.rand(legs.sizes[1], legs.sizes[0]).argsort(
        1
    )  # inputs in random order, for every output
    rank = torch.arange(legs.edges) - torch.searchsorted(legs.target, legs.target)
    return SpanLegs(legs.sizes, elsewhere[legs.target, rank], legs.target, legs.weight)


def mistied_legs() -> SpanLegs:
    """The edges and the number of weights of a convolution; which edges share a weight is drawn at random."""
    return SpanLegs(CONV.sizes, CONV.source, CONV.target, CONV.weight[torch.randperm(CONV.edges)])


def torch_convolution() -> nn.Module:
    """The same layer, as torch has it."""
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.Flatten())


FRAME = Frame("vectors", (64,), nn.Flatten)  # the layer sees the pixels
SIDE_BY_SIDE = [
    Variant("dense", lambda: nn.Linear(64, 512), "torch.nn.Linear", ("baseline",)),
    Variant("edges of a convolution", lambda: _layer(local_legs()), "ParametricSpan", ("sparse", "local")),
    Variant("as many edges, at random", lambda: _layer(scattered_legs()), "ParametricSpan", ("sparse",)),
    Variant("convolution as a span", lambda: _layer(CONV, 64), "ParametricSpan", ("local", "shared weights")),
    Variant(
        "tied at random", lambda: _layer(mistied_legs(), 64), "ParametricSpan", ("local", "shared weights")
    ),
    Variant("convolution", torch_convolution, "torch.nn.Conv2d", ("local", "shared weights")),
    Variant(
        "inverted bottleneck", lambda: InvertedBottleneckBlock(64), "InvertedBottleneckBlock", ("residual",)
    ),
]


@experiment(paper=("parametric-spans", "scaling-mlps"), seeds=5)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)


# -- Layers of the same type -----------------------------------------------------------------------

SEED_LAYER = nn.Conv2d(8, 8, 3, padding=1)
REPLACEMENTS = [
    options
    for options in generate_type_equivalent(io_signature(SEED_LAYER).sizes[0])
    if 1 < options["kernel_size"] < 6
]


def digit_cnn(options: dict[str, int]) -> nn.Module:
    """A small network of digits; only its middle layer has these options."""
    middle = nn.Conv2d(8, 8, **options)
    ends = (
        (nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()),
        (nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )
    return nn.Sequential(*ends[0], middle, *ends[1])


@experiment(paper="neuralarts", seeds=3)
def replacements(seed: int) -> dict[str, float]:
    """Test accuracy on digits with each of 12 layers of one type in the same place, 150 steps."""
    digits, result = load("digits"), {}
    for options in REPLACEMENTS:
        torch.manual_seed(seed)
        model = digit_cnn(options)
        fit(model, digits.train, steps=150, batch_size=64, lr=3e-3, seed=seed)
        result[f"k{options['kernel_size']}_d{options['dilation']}"] = evaluate(model, digits.test)
    worst, best = min(result.values()), max(result.values())
    return result | {"worst": worst, "range": best - worst}


# -- Two heads -------------------------------------------------------------------------------------


def svm_cnn() -> nn.Module:
    """Two convolutions, two poolings, two dense layers, narrower than the paper's; the last is the head."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)),
    )


def train_head(head: str, seed: int, steps: int = 300) -> nn.Module:
    """Train the network with a softmax or an SVM head; everything else is equal."""
    torch.manual_seed(seed)
    model = svm_cnn()
    loss = None
    if head == "svm":
        loss = lambda scores, y: squared_hinge_loss(scores, y, model[-1].weight)  # noqa: E731
    fit(model, load("digits").train, steps=steps, batch_size=64, lr=1e-3, loss=loss, seed=seed)
    return model


@experiment(paper="cnn-svm", seeds=5)
def heads(seed: int) -> dict[str, float]:
    """Test accuracy on digits with a softmax and with a squared-hinge head, 300 steps each."""
    result = {head: evaluate(train_head(head, seed), load("digits").test) for head in ("softmax", "svm")}
    return result | {"softmax_gain": result["softmax"] - result["svm"]}


@experiment(paper="cnn-svm", seeds=3)
def heads_longer(seed: int) -> dict[str, float]:
    """The same after 1200 steps each."""
    test = load("digits").test
    result = {head: evaluate(train_head(head, seed, steps=1200), test) for head in ("softmax", "svm")}
    return result | {"softmax_gain": result["softmax"] - result["svm"]}


# -- One loop for all kinds of data ----------------------------------------------------------------

VOWELS = {
    "a": (730, 1090),
    "e": (530, 1840),
    "i": (270, 2290),
    "o": (570, 840),
    "u": (300, 870),
}  # formants in Hz


def vowels(n: int, seed: int, *, rate: int = 8000, length: int = 1024) -> tuple[Tensor, Tensor]:
    """Synthetic vowels: overtones of a random pitch, loud near two formants that vary a little, in noise."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % len(VOWELS)
    pitch = 90 + 160 * torch.rand(n, 1, 1, generator=g)
    formants = torch.tensor(list(VOWELS.values())).float()[y] * (
        1 + 0.3 * (torch.rand(n, 1, generator=g) - 0.5)
    )
    overtone = pitch * torch.arange(1, 30)[:, None]  # (n, 29, 1) in Hz
    loudness = (1 / (1 + ((overtone - formants[:, None]) / 100) ** 2)).sum(-1, keepdim=True)
    phase = 2 * torch.pi * (overtone * torch.arange(length) / rate + torch.rand(n, 29, 1, generator=g))
    sound = (loudness * (overtone < rate / 2) * phase.sin()).sum(1)
    return sound + 0.5 * torch.randn(n, length, generator=g), y


def spectrogram(sound: Tensor) -> Tensor:
    """Logarithm of the short-time power, (n, frequencies, frames)."""
    window = torch.hann_window(128)
    return torch.stft(sound, 128, 128, window=window, center=False, return_complex=True).abs().add(1e-2).log()


def text_or_code(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """32 characters of English or of Python source in lower case, as numbers below 128."""
    g, x = torch.Generator().manual_seed(seed), []
    for name in ("english", "source_code"):
        text = load(name)
        part = text.decode(text.train.tokens[:150_000]).lower()
        starts = torch.randint(len(part) - 32, (rows // 2,), generator=g).tolist()
        x += [[min(ord(c), 127) for c in part[s : s + 32]] for s in starts]
    return torch.tensor(x), torch.arange(2).repeat_interleave(rows // 2)


def kinds_of_data() -> dict[
    str, tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Callable[[], nn.Module], int]
]:
    """For each kind: training rows, test rows, what turns a row into a vector, and its length."""
    table, digits = load("breast_cancer").standardised(), load("digits")
    cut = lambda x, y: ((x[::2], y[::2]), (x[1::2], y[1::2]))  # noqa: E731
    sound, vowel = vowels(1000, 0)
    frames = spectrogram(sound)
    text = text_or_code(2000, 0)
    one_hot = lambda: nn.Sequential(_OneHot(), nn.Flatten())  # noqa: E731
    first, second = slice(0, 500), slice(500, 1000)
    return {
        "table": (tuple(table.train), tuple(table.test), nn.Flatten, 30),
        "image": (tuple(digits.train), tuple(digits.test), nn.Flatten, 64),
        "text": (*cut(*text), one_hot, 32 * 128),
        "sound": (
            (frames[first], vowel[first]),
            (frames[second], vowel[second]),
            nn.Flatten,
            frames[0].numel(),
        ),
    }


class _OneHot(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x, 128).float()


@experiment(paper="keras-course", seeds=5)
def four_kinds(seed: int) -> dict[str, float]:
    """Equal settings on a table, images, text and sound: dense network, linear model, majority class."""
    result = {}
    for kind, (train, test, flat, width) in kinds_of_data().items():
        classes = int(train[1].max()) + 1
        models = {
            "linear": lambda w=width, c=classes, f=flat: nn.Sequential(f(), nn.Linear(w, c)),
            "dense": lambda w=width, c=classes, f=flat: nn.Sequential(
                f(), nn.Linear(w, 64), nn.ReLU(), nn.Linear(64, c)
            ),
        }
        for name, make in models.items():
            torch.manual_seed(seed)
            model = make()
            fit(model, train, steps=300, batch_size=32, lr=2e-3, seed=seed)
            result[f"{kind}_{name}"] = evaluate(model, test)
        result[f"{kind}_majority"] = (test[1] == train[1].mode().values).float().mean().item()
        result[f"{kind}_gain"] = result[f"{kind}_dense"] - result[f"{kind}_linear"]
    return result


@experiment(paper="keras-course", seeds=10)
def stopping(seed: int) -> dict[str, float]:
    """200 digits, at most 1000 steps: losses and test accuracy with and without stopping early."""
    digits = load("digits")
    chosen = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(seed))[:200]
    few, result = (digits.train.x[chosen], digits.train.y[chosen]), {}
    for name, patience in (("last", None), ("best", 5)):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        hooks = [EarlyStopping(digits.validation, patience=patience, every=10)] if patience else []
        history = fit(model, few, steps=1000, batch_size=32, lr=3e-3, seed=seed, hooks=hooks)
        result[f"{name}_steps"] = len(history.losses)
        result[f"{name}_validation"] = evaluate(model, digits.validation, metric="loss")
        result[f"{name}_test"] = evaluate(model, digits.test, metric="loss")
        result[f"{name}_accuracy"] = evaluate(model, digits.test)
    return result | {"test_gain": result["last_test"] - result["best_test"]}


# -- How far dense layers go -----------------------------------------------------------------------

SIZES = (500, 2000, 8000)
RACE_STEPS = 500


def race_mlp(depth: int = 2, dim: int = 20) -> nn.Module:
    """7750 parameters as it stands, 69 834 at width 64."""
    return InvertedBottleneckMLP(40, 10, dim=dim, depth=depth)


def race_cnn() -> nn.Module:
    """7402 parameters: three convolutions, an average over pairs of places, one dense layer."""
    return nn.Sequential(
        *(nn.Conv1d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv1d(16, 32, 5, stride=2, padding=2), nn.ReLU()),
        *(
            nn.Conv1d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AvgPool1d(2),
            nn.Flatten(),
            nn.Linear(160, 10),
        ),
    )


def plain_mlp() -> nn.Module:
    """Eight dense layers of width 40 between embedding and output, no norm, no skip: 15170 parameters."""
    layers = [nn.Sequential(nn.Linear(40, 40), nn.GELU()) for _ in range(8)]
    return nn.Sequential(nn.Flatten(), nn.Linear(40, 40), *layers, nn.Linear(40, 10))


def rolled(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of 128 signals, each rolled round by a random number of places."""
    chosen = torch.randint(len(x), (128,), generator=generator)
    places = (torch.arange(40) + torch.randint(40, (128, 1), generator=generator)) % 40
    return x[chosen].gather(2, places[:, None]), y[chosen]


def energy_around_peak(weight: Tensor) -> Tensor:
    """Share of a unit's energy by distance from its strongest place (round the end), mean over units."""
    energy = weight.square() / weight.square().sum(1, keepdim=True)
    places = (energy.argmax(1)[:, None] + torch.arange(weight.shape[1])) % weight.shape[1]
    around = energy.gather(1, places).mean(0)
    half = len(around) // 2
    return torch.cat([around[:1], around[1:half] + around[half + 1 :].flip(0), around[half : half + 1]])


RACERS = {"mlp": race_mlp, "wide": partial(race_mlp, dim=64), "cnn": race_cnn}


@experiment(paper="scaling-mlps", seeds=3)
def race(seed: int) -> dict[str, float]:
    """Test accuracy on mnist1d of an MLP, a wide one and a CNN, by training rows, rolled or not."""
    test, result = make_mnist1d(2000, seed=10_000 + seed), {}
    for size in SIZES:
        x, y = make_mnist1d(size, seed=seed)
        for rolls, data in (("", (x, y)), ("_rolled", partial(rolled, x, y))):
            for name, make in RACERS.items():
                torch.manual_seed(seed)
                model = make()
                fit(model, data, steps=RACE_STEPS, batch_size=128, lr=5e-3, seed=seed)
                result[f"{name}_{size}{rolls}"] = evaluate(model, test)
                if name == "wide":
                    around = energy_around_peak(model.embed.weight.detach()).tolist()
                    result |= {f"energy_{size}{rolls}_{d:02d}": share for d, share in enumerate(around)}
                    result[f"near_{size}{rolls}"] = sum(around[:5])  # 9 of 40 places
            for name in ("mlp", "wide"):
                result[f"{name}_gap_{size}{rolls}"] = (
                    result[f"cnn_{size}{rolls}"] - result[f"{name}_{size}{rolls}"]
                )
    for name in ("mlp", "wide"):
        result[f"{name}_gap_ratio"] = result[f"{name}_gap_{SIZES[-1]}"] / result[f"{name}_gap_{SIZES[0]}"]
    result["near_gain"] = sum(result[f"near_{size}_rolled"] - result[f"near_{size}"] for size in SIZES) / len(
        SIZES
    )
    torch.manual_seed(seed)
    result["near_start"] = energy_around_peak(race_mlp(dim=64).embed.weight.detach())[:5].sum().item()
    return result


@experiment(paper="scaling-mlps", seeds=3)
def eight_layers(seed: int) -> dict[str, float]:
    """Test accuracy on mnist1d of eight dense layers as four inverted bottlenecks and as a plain stack."""
    test, result = make_mnist1d(2000, seed=10_000 + seed), {}
    for size in SIZES:
        data = make_mnist1d(size, seed=seed)
        for name, make in (("blocks", partial(race_mlp, 4)), ("plain", plain_mlp)):
            torch.manual_seed(seed)
            model = make()
            fit(model, data, steps=RACE_STEPS, batch_size=128, lr=5e-3, seed=seed)
            result[f"{name}_{size}"] = evaluate(model, test)
        result[f"gain_{size}"] = result[f"blocks_{size}"] - result[f"plain_{size}"]
    return result


# -- A pipeline with types -------------------------------------------------------------------------


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
