"""Trained claims of rbm-dbn-tutorial."""

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.synthetic import bars_and_stripes
from course_lib.experiments.training.local_learning._shared import accuracy, flat_digits
from course_lib.measure import experiment
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


@experiment(paper="rbm-dbn-tutorial", seeds=3)
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


@experiment(paper="rbm-dbn-tutorial", seeds=3)
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
