"""Training: batches and noise are functions of seed and step, so a run stopped and resumed is the run not stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data import Rows
from ..errors import DataError, OptionError
from ..evaluation import check_data, check_values
from ..numbers import Precision
from ..roles import Given, Objective
from .checkpoint import Checkpoints
from .history import History, Journal
from .loop import Loop
from .options import TrainOptions
from .profile import Profile
from .validation import Validation

__all__ = ["fit"]

_CHECKED = 4096
"""Rows whose values are checked together."""


def fit(
    model: Any,
    objective: Objective,
    rows: Rows | Tensor,
    *,
    steps: int,
    valid: Tensor | None = None,
    valid_given: Given | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    decay: bool = True,
    warmup: int = 0,
    weight_decay: float = 0.0,
    clip: float = 5.0,
    average: float = 0.0,
    patience: int | None = None,
    validate_every: int = 100,
    seed: int = 0,
    select: bool = True,
    precision: Precision = "fp32",
    compiled: bool = False,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    journal: Journal | None = None,
    profile: Profile | None = None,
) -> History:
    r"""Trains a model in place with Adam on an objective.

    Order and noise are functions of the seed and the step. Test rows have no way in. When all steps are taken and
    there are validation rows, the model holds the weights with the best validation bound (β = 1, a fixed number of
    samples, common noise), never one from before all schedules of the objective have run.

    A step whose loss or gradient is not finite, or whose loss is ten times worse than the first, is skipped and
    counted. After ten in a row the weights go back to those of the last validation and the rate is halved; after the
    third time training ends with an error, the model holding these weights.

    References:
        Kingma, Ba (2015), Adam. Loshchilov, Hutter (2019), Decoupled weight decay regularization. Polyak, Juditsky
        (1992), Acceleration of stochastic approximation by averaging.

    Arguments:
        model: A model; its parameters are changed in place.
        objective: What is minimised.
        rows: The training rows, as :class:`jensen.data.Rows` or as the floats that the model sees, shape (N, \*X).
        steps: The number of steps; with ``decay`` the rate has fallen to zero after them.
        valid: Validation rows as the model sees them.
        valid_given: What is known beside them.
        batch_size: The largest number of rows in a batch.
        learning_rate: The peak of the learning rate.
        decay: Whether the rate falls along half a cosine to zero; otherwise it stays at its peak.
        warmup: The number of steps in which the learning rate rises to its peak.
        weight_decay: The decoupled weight decay.
        clip: Gradients longer than this multiple of their usual length are shortened to it; 0 never shortens.
        average: The decay of the moving average of the weights, which is what is validated and kept; 0 is none.
        patience: Stop after this many validations in a row without a better bound, once all schedules have run.
        validate_every: How many steps lie between two validations.
        seed: The seed of order and noise.
        select: Whether to keep the weights with the best validation bound.
        precision: What the networks of conditionals compute in; densities and weights are always fp32.
        compiled: Whether a step is compiled by torch: as one graph on a CPU where the model allows it, else in parts;
            gradients that an estimator changes on their way are taken without.
        checkpoints: Where to save; a checkpoint is written when due and whenever training stops.
        resume: Whether to go on from the newest checkpoint.
        stop_after: Stop once this many steps are taken in all; schedules do not change.
        should_stop: Asked after each step; training stops with a checkpoint when it says so.
        journal: Where reports go.
        profile: Who measures where the time goes.

    Raises:
        OptionError: If an option is out of range.
        DataError: If the rows cannot be modelled.
        DeadTermError: If a term of the objective never reaches any parameter.
        NonFiniteError: If the loss stays infinite, not a number or far beyond the first one.

    Example:
        >>> from jensen import VAE, Conditional, families, nets, objectives, priors
        >>> vae = VAE(
        ...     priors.StandardNormal(2),
        ...     Conditional(nets.mlp(2, 6), families.Bernoulli(6)),
        ...     Conditional(nets.mlp(6, 4), families.Normal(2, scale=families.PredictedScale())),
        ... )
        >>> x = torch.eye(6).repeat(10, 1)
        >>> history = fit(vae, objectives.ELBO(), x, steps=20, valid=x[:6], validate_every=10)
        >>> [line["step"] for line in history.lines], history.finished
        ([10, 20], True)
    """
    try:
        options = TrainOptions(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            decay=decay,
            warmup=warmup,
            weight_decay=weight_decay,
            clip=clip,
            average=average,
            patience=patience,
            validate_every=validate_every,
            seed=seed,
            select=select,
            precision=precision,
            compiled=compiled,
        )
    except ValueError as error:
        raise OptionError(str(error)) from error
    rows = rows if isinstance(rows, Rows) else Rows(rows)
    _check(model, rows, valid, valid_given, options)
    validation = None if valid is None else Validation(model, objective, valid, valid_given, options.seed)
    loop = Loop(model, objective, rows, validation, options, checkpoints, journal, profile or Profile(on=False))
    if resume:
        loop.restore()
    elif checkpoints is not None:
        checkpoints.refuse_others()
    return loop.run(stop_after, should_stop or (lambda: False))


def _check(model: Any, rows: Rows, valid: Tensor | None, valid_given: Given | None, options: TrainOptions) -> None:
    if not options.warmup < options.steps:
        raise OptionError(f"warmup={options.warmup} must be below steps={options.steps}.")
    if not any(p.requires_grad for p in model.parameters()):
        raise OptionError("the model has no parameters to train.")
    with torch.random.fork_rng(devices=[]):
        first, given = rows.batch(torch.arange(min(len(rows), _CHECKED)))
        check_data(model, first, given)
        for start in range(len(first), len(rows), _CHECKED):
            try:
                check_values(model, rows.batch(torch.arange(start, min(start + _CHECKED, len(rows))))[0])
            except DataError as error:
                raise type(error)(f"counting from training row {start}: {error}") from error
    if valid is None and options.patience is not None:
        raise OptionError(f"patience={options.patience} waits for a bound on validation rows; pass them as valid=.")
    if valid is not None:
        check_data(model, valid, valid_given)
        if tuple(valid.shape[1:]) != tuple(first.shape[1:]):
            raise DataError(f"training rows and validation rows differ in shape: {tuple(valid.shape[1:])}.")
    if len(rows) > 1 and bool((rows.values == rows.values[:1]).all()):
        raise DataError(
            f"all {len(rows)} training rows are equal: there is nothing to learn. Check how they were read."
        )
