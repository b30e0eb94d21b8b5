"""One loop for four kinds of data, and when to stop it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.measure import at_least, each, experiment, paper_claim, question
from course_lib.training.hooks import EarlyStopping
from course_lib.training.loop import evaluate, fit

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


KINDS = ("table", "image", "text", "sound")
DATA = {"table": "a table", "image": "images", "text": "32 characters of text", "sound": "sounds"}


@experiment(
    paper="keras-course",
    seeds=10,
    trained={
        f"{kind}_{model}": lambda m, kind=kind: at_least(m[f"{kind}_majority"].mean + 0.1)
        for kind in KINDS
        for model in ("dense", "linear")
    },
    claims=[
        paper_claim(
            "a neural network handles tabular data, images, text and audio: accuracy above that of the "
            "majority class on the worst of the four",
            of="one hidden layer, 300 steps",
            where="abstract",
            headline=True,
            scale="one hidden layer, data as input only; the book: convolutional, recurrent and adversarial "
            "networks, data as input and output",
            value=lambda m: each(min, *(m[f"{kind}_dense"] - m[f"{kind}_majority"] for kind in KINDS)),
            expect=at_least(0.2),
        ),
    ]
    + [
        question(
            f"on {data} a hidden layer is worth accuracy, over a linear model",
            of="300 steps",
            value=lambda m, kind=kind: m[f"{kind}_dense"] - m[f"{kind}_linear"],
            expect=at_least(0.0),
            verdict={"image": "as expected", "text": "not as expected"}.get(kind, "open"),
        )
        for kind, data in DATA.items()
    ],
)
def four_kinds(seed: int) -> dict[str, float]:
    """Equal settings on a table, images, text and sound.

    Returns:
        ``{kind}_dense``, ``{kind}_linear``, ``{kind}_majority``: test accuracy (a share) of a network with
        one hidden layer, of a linear model, and of the class that is most frequent in training.
    """
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
    return result


@experiment(
    paper="keras-course",
    seeds=10,
    trained={"*_accuracy": at_least(0.87)},  # least squares on 200 digits has 0.84 to 0.865
    claims=[
        paper_claim(
            "early stopping prevents overfitting: test loss that it saves",
            of="200 digits, at most 1000 steps",
            where="Section 3.4",
            value=lambda m: m["last_test"] - m["best_test"],
            expect=at_least(0.0),
        ),
        question(
            "it saves accuracy, too",
            of="200 digits, at most 1000 steps",
            value=lambda m: m["best_accuracy"] - m["last_accuracy"],
            expect=at_least(0.0),
            verdict="open",
        ),
    ],
)
def stopping(seed: int) -> dict[str, float]:
    """200 digits, at most 1000 steps, with and without stopping early.

    Returns:
        For ``last`` (all steps) and ``best`` (patience 5, the best weights come back): ``{which}_steps``,
        ``{which}_validation`` and ``{which}_test``, losses in nats, and ``{which}_accuracy`` on the test set.
    """
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
    return result
