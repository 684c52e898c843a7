"""Classifiers that begin with an encoder, and what the encoder saves them in labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conditional import Conditioned
from .data import batch_index
from .data.labels import choose_labelled
from .errors import JensenError, OptionError
from .evaluation import device_of, evaluation_mode, in_chunks
from .nets import Linear
from .noise import mix, seeded
from .numbers import finite, mean_and_se, whole
from .schedules import Cosine
from .spec import build, describe

__all__ = ["EncoderClassifier", "LabelledRows", "Start", "Trial", "accuracy", "encoder_classifier", "try_starts"]

Start = Literal["scratch", "frozen", "fine-tuned"]
"""Where a classifier starts: from new weights, or from those of an encoder, which stay or are trained on."""

_RATE, _DECAY, _BATCH = 1e-3, 1e-3, 128


class _Top(nn.Module):
    """The features of an encoder, or of the highest group of a ladder, averaged over places."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        found = self.encoder(x)
        if isinstance(found, Tensor):  # a vector, or a grid of codes, whose values come last
            return found if found.ndim == 2 else found.flatten(1, -2).mean(1)
        top: Tensor = found[0]  # of a ladder, whose maps come first
        return top if top.ndim == 2 else top.flatten(2).mean(2)


class EncoderClassifier(nn.Module):
    r"""An encoder's features, brought to one scale, and a linear map of them to the logits of classes.

    Arguments:
        features: A module from x, shape (B, \*X), to features, shape (B, F).
        width: The number F of features.
        classes: The number of classes.
    """

    def __init__(self, features: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.scaled = nn.BatchNorm1d(width, affine=False)
        self.head = Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))

    def classify(self, features: Tensor) -> Tensor:
        """The logits of features."""
        logits: Tensor = self.head(self.scaled(features))
        return logits


def encoder_classifier(model: Any, n_classes: int) -> EncoderClassifier:
    """A classifier that starts with a copy of the encoder of a model, up to its last hidden layer.

    References:
        Hinton, Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.

    Arguments:
        model: A :class:`jensen.Fitted` or a model: an autoencoder, or one with an amortised posterior.
        n_classes: The number of classes.

    Raises:
        OptionError: If there are fewer than two classes.
        JensenError: If the model has no encoder network, or one that sees the label.

    Example:
        >>> from jensen import Conditional, families, model, nets
        >>> decoder = Conditional(nets.mlp(2, 6), families.Bernoulli(6))
        >>> autoencoder = model.Autoencoder(nets.mlp(6, 2, hidden=(8,)), decoder, latents=2)
        >>> encoder_classifier(autoencoder, 3).eval()(torch.ones(5, 6)).shape
        torch.Size([5, 3])
    """
    if n_classes < 2:
        raise OptionError(f"a classifier needs at least 2 classes; got {n_classes}.")
    net = copy.deepcopy(_encoder_of(getattr(model, "vae", model)))
    if isinstance(net, nn.Sequential) and len(net) > 1 and isinstance(net[-1], nn.Linear):
        features: nn.Module = net[:-1]
        width = net[-1].in_features
    else:
        width = _width(net)
        features = _Top(net)
    parameter = next(net.parameters())
    return EncoderClassifier(features, width, n_classes).to(parameter.device, parameter.dtype)


def _encoder_of(model: Any) -> nn.Module:
    posterior, classifier = getattr(model, "posterior", None), getattr(model, "classifier", None)
    if isinstance(posterior, Conditioned):
        raise JensenError("the encoder of this model sees the label, so it cannot help to tell it. Use another model.")
    encoder = getattr(model, "encoder", None)
    own = getattr(encoder, "net", encoder)  # a plain network, or that of a distribution
    for found in (getattr(classifier, "net", None), own, getattr(posterior, "net", None)):
        if isinstance(found, nn.Module):
            return found
    raise JensenError(
        f"{type(model).__name__} has no encoder network to start a classifier from. Use a model with one, such as "
        "autoencoder or vae."
    )


def _width(net: nn.Module) -> int:
    sizes = [getattr(m, "out_features", getattr(m, "out_channels", None)) for m in net.modules()]
    known = [size for size in sizes if isinstance(size, int)]
    if not known:
        raise JensenError(f"cannot tell how many features {type(net).__name__} returns: no layer of it says.")
    return known[-1]


def accuracy(classify: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, model: nn.Module) -> dict[str, Any]:
    r"""How often the most probable class is the label, with its standard error.

    Arguments:
        classify: From rows to a number for each class, shape (B, C).
        x: Rows in the values that the model sees, shape (N, \*X).
        labels: The number of the class of each, shape (N,).
        model: Whose mode and device are to be used.
    """
    with evaluation_mode(model):
        found = in_chunks(lambda rows: classify(rows.to(device_of(model))).argmax(-1).cpu(), x)
    mean, se = mean_and_se((found == labels).double())
    return {"mean": mean, "se": finite(se), "n": len(x)}


@dataclass(frozen=True)
class LabelledRows:
    r"""Rows in the values that the model sees, shape (N, \*X), and the numbers of their classes, shape (N,)."""

    x: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Trial:
    """What classifiers with one start and one number of labels came to.

    Arguments:
        start: Where they started.
        labels: How many labels they learned from.
        accuracies: The share of test rows that each seed got right.
        mean: Their mean.
        se: Its standard error over seeds; None with one seed.
        gain: The mean over seeds of what they are better by than those from scratch with the same labels.
        gain_se: The standard error of that.
    """

    start: Start
    labels: int
    accuracies: list[float]
    mean: float
    se: float | None
    gain: float | None
    gain_se: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)


def try_starts(
    model: Any,
    train: LabelledRows,
    test: LabelledRows,
    *,
    labels: Iterable[int],
    starts: Iterable[Start] = ("frozen", "fine-tuned"),
    seeds: int = 5,
    steps: int = 1000,
    seed: int = 0,
    told: Callable[[str], None] | None = None,
) -> list[Trial]:
    """Trains classifiers from an encoder and from scratch on the same few labels, and scores them on test rows.

    Each seed chooses its labelled rows, as many of each class as of any other, the new weights and the order. Nothing
    is tuned or stopped by other labels. A fine-tuned classifier first learns its linear map over the encoder as it is.

    References:
        Kumar et al. (2022), Fine-tuning can distort pretrained features and underperform out-of-distribution.

    Arguments:
        model: A model with an encoder.
        train: The rows to choose from.
        test: The rows to score.
        labels: The numbers of labels.
        starts: What is compared with a start from scratch.
        seeds: How many times each.
        steps: The number of steps.
        seed: The first seed.
        told: Hears what is trained.

    Raises:
        OptionError: If there are fewer rows than labels, or a number is not positive.

    Example:
        >>> from jensen import Conditional, families, model, nets
        >>> decoder = Conditional(nets.mlp(2, 6), families.Bernoulli(6))
        >>> autoencoder = model.Autoencoder(nets.mlp(6, 2, hidden=(8,)), decoder, latents=2)
        >>> rows = LabelledRows(torch.eye(6).repeat(5, 1), torch.arange(30) % 6 // 3)
        >>> [trial.start for trial in try_starts(autoencoder, rows, rows, labels=[12], seeds=2, steps=5)]
        ['scratch', 'frozen', 'fine-tuned']
    """
    seeds = whole(seeds, 1, "classifiers are compared over at least 1 seed")
    steps = whole(steps, 1, "a classifier learns for at least 1 step")
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    trials = []
    for count in labels:
        found: dict[Start, list[float]] = {}
        for start in dict.fromkeys(("scratch", *starts)):
            if told is not None:
                told(f"{count} labels, {start}, {seeds} seed{'s' * (seeds > 1)}")
            found[start] = [
                _one(model, start, train, test, count, classes, steps, mix(seed, number)) for number in range(seeds)
            ]
        trials += [_summary(start, count, each, found["scratch"]) for start, each in found.items()]
    return trials


def _summary(start: Start, count: int, accuracies: list[float], scratch: list[float]) -> Trial:
    mean, se = mean_and_se(torch.tensor(accuracies, dtype=torch.float64))
    if start == "scratch":
        return Trial(start, count, accuracies, mean, finite(se), None, None)
    differences = torch.tensor(accuracies, dtype=torch.float64) - torch.tensor(scratch, dtype=torch.float64)
    gain, gain_se = mean_and_se(differences)
    return Trial(start, count, accuracies, mean, finite(se), gain, finite(gain_se))


def _one(
    model: Any, start: Start, train: LabelledRows, test: LabelledRows, count: int, classes: int, steps: int, seed: int
) -> float:
    """The share of test rows that one classifier gets right."""
    places = choose_labelled(train.x, train.labels, count, seed)
    with seeded(seed, "classifier"):
        classifier = encoder_classifier(_anew(model) if start == "scratch" else model, classes)
        chosen = LabelledRows(train.x[places], train.labels[places])
        if start != "scratch":  # an encoder that is trained on under a random head forgets what it knows
            _learn(classifier, chosen, steps, seed, frozen=True)
        if start != "frozen":
            _learn(classifier, chosen, steps, seed, frozen=False)
    right: float = accuracy(classifier, test.x, test.labels, classifier)["mean"]
    return right


def _anew(model: Any) -> Any:
    """The same model with the weights it had before any training."""
    vae = getattr(model, "vae", model)
    parameter = next(vae.parameters())
    return build(*describe(vae)).to(parameter.device, parameter.dtype)


def _learn(classifier: EncoderClassifier, rows: LabelledRows, steps: int, seed: int, *, frozen: bool) -> None:
    """Cross-entropy by Adam, the rate falling along half a cosine."""
    device = device_of(classifier)
    x, y = rows.x.to(device), rows.labels.to(device)
    trained: nn.Module = classifier.head if frozen else classifier
    if frozen:
        with evaluation_mode(classifier):
            x = in_chunks(classifier.features, x).clone()
    rate = Cosine(_RATE if not frozen else 10 * _RATE, steps, 0)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=_RATE, weight_decay=_DECAY)
    classifier.train()
    if frozen:
        classifier.features.eval()
    for step in range(steps):
        index = batch_index(len(x), _BATCH, seed, step).to(device)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        logits = classifier.classify(x[index]) if frozen else classifier(x[index])
        optimizer.zero_grad()
        F.cross_entropy(logits, y[index]).backward()
        optimizer.step()
    classifier.eval()
