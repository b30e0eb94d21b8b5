"""Trained claims of rbm-dbn-tutorial."""

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.synthetic import bars_and_stripes
from course_lib.experiments.training.local_learning._shared import accuracy, flat_digits
from course_lib.measure import at_least, at_most, between, experiment, paper_claim, question
from course_lib.training.local_learning import (
    RBM,
    DeepBeliefNetwork,
    contrastive_divergence_step,
    log_likelihood,
)


def cosine_with_exact_gradient(rbm: RBM, data: Tensor) -> float:
    """Between the direction of CD-1, averaged over 50 chains for each data vector, and the exact gradient."""
    parameters = (rbm.weight, rbm.visible_bias, rbm.hidden_bias)
    exact = torch.autograd.grad(log_likelihood(rbm, data), parameters)
    estimate = contrastive_divergence_step(rbm, data.repeat(50, 1))
    ours, theirs = (torch.cat([part.flatten() for part in parts]) for parts in (estimate, exact))
    return F.cosine_similarity(ours, theirs, dim=0).item()


PICTURES = "bars and stripes of 3 by 3, 8 hidden units"
INDEPENDENT = -6.2383  # nats, -9 ln 2: every pixel is on in half of the pictures


@experiment(
    paper="rbm-dbn-tutorial",
    seeds=10,
    trained={"*_02000": at_least(INDEPENDENT + 0.1)},
    claims=[
        paper_claim(
            "two layers of units learn from unlabelled data: nats above independent pixels after 2000 steps",
            where="abstract",
            of=PICTURES,
            value=lambda m: m["momentum_02000"] - INDEPENDENT,
            expect=at_least(2.0),
            headline=True,
            scale="Fourteen pictures, so that the likelihood is exact; the tutorial shows an example and "
            "promises no number.",
        ),
        question(
            "momentum 0.5 and then 0.9 is ahead of none by more than a nat after 2000 steps",
            of=PICTURES,
            value=lambda m: m["momentum_02000"] - m["plain_02000"],
            expect=at_least(1.0),
        ),
        question(
            "cosine of the CD-1 direction and the exact gradient, first 1000 steps",
            of=PICTURES,
            value=lambda m: m["momentum_cosine_early"],
            expect=at_least(0.3),
        ),
        question(
            "the same in the last 2000 of 10 000 steps: it points nowhere",
            of=PICTURES,
            value=lambda m: m["momentum_cosine_late"],
            expect=between(-0.15, 0.15),
        ),
        question(
            "the log-likelihood falls from step 2000 to step 10 000",
            of=PICTURES,
            value=lambda m: m["momentum_10000"] - m["momentum_02000"],
            expect=at_most(0.0),
        ),
    ],
)
def exact_likelihood(seed: int) -> dict[str, float]:
    """CD-1 on bars and stripes, with and without momentum: exact log-likelihood, error, gradient's angle."""
    patterns, result = bars_and_stripes(3), {}
    for name, last in (("momentum", 10000), ("plain", 4000)):
        torch.manual_seed(seed)
        rbm = RBM(9, 8, lr=0.05, momentum=0.0, weight_decay=0.0)
        rbm.reset_parameters(patterns)
        cosines, errors = [], []
        for step in range(last + 1):
            if name == "momentum":
                rbm.momentum = 0.5 if step < 200 else 0.9
            if step % 500 == 0:
                with torch.no_grad():
                    result[f"{name}_{step:05d}"] = log_likelihood(rbm, patterns).item()
            if step % 100 == 0:
                cosines.append(cosine_with_exact_gradient(rbm, patterns))
            errors.append(
                rbm.train_step(patterns[torch.randint(len(patterns), (32,))])["reconstruction_error"]
            )
        for step in (1000, last):
            result[f"{name}_error_{step:05d}"] = sum(errors[step - 200 : step]) / 200
        result[f"{name}_cosine_early"] = sum(cosines[:10]) / 10
        result[f"{name}_cosine_late"] = sum(cosines[-20:]) / 20
    return result


@experiment(
    paper="rbm-dbn-tutorial",
    seeds=10,
    trained={"raw": at_least(0.5), "layer_*": at_least(0.5)},  # ten classes: a guess is right in 0.1
    claims=[
        paper_claim(
            "deep networks classify handwritten digits and speech",
            where="abstract",
            not_tested="no network is fine-tuned here, and neither MNIST nor speech is used",
        ),
        question(
            "one unsupervised layer gives better features than raw pixels",
            of="logistic regression on 50 labelled digits",
            value=lambda m: m["layer_1"] - m["raw"],
            expect=at_least(0.0),
        ),
        question(
            "two layers give better features than one",
            of="logistic regression on 50 labelled digits",
            value=lambda m: m["layer_2"] - m["layer_1"],
            expect=at_least(0.0),
            verdict="not as expected",
        ),
    ],
)
def few_labels(seed: int) -> dict[str, float]:
    """Logistic regression on 50 labelled digits: raw pixels against two layers of unsupervised features."""
    data = flat_digits()
    torch.manual_seed(seed)
    dbn = DeepBeliefNetwork([64, 100, 100], lr=0.05).pretrain(data["train"][0], steps=2000)
    rows = load("digits").train[:50]  # five of each class
    few, labels = rows.x.flatten(1), rows.y
    test, answers = data["test"]
    views = {
        name: (a, b)
        for name, a, b in zip(
            ("raw", "layer_1", "layer_2"),
            [few, *dbn.features(few)],
            [test, *dbn.features(test)],
            strict=True,
        )
    }
    result = {}
    for name, (a, b) in views.items():
        read_out = LogisticRegression(max_iter=1000).fit(a.numpy(), labels.numpy())
        result[name] = accuracy(torch.from_numpy(read_out.predict(b.numpy())), answers)
    return result
