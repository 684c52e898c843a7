"""``jensen.check``: one page about a model and rows in the user's units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .diagnose.checking import check_subject
from .diagnose.page import Page, Subject
from .diagnose.parts import PARTS
from .errors import DataError
from .evaluation import measure_of
from .fitted import Fitted

__all__ = ["check"]


def check(
    model: Any,
    x: Any,
    *,
    train: Any = None,
    labels: Any = None,
    train_labels: Any = None,
    factors: Any = None,
    objective: Any = None,
    split: str = "test",
    rows: int = 200,
    samples: int = 1000,
    seed: int = 0,
    parts: tuple[str, ...] = tuple(PARTS),
    time_budget: float | None = None,
) -> Page:
    r"""One page about a model: is it any good, and what limits it?

    Arguments:
        model: A :class:`jensen.Fitted`, with rows in the user's units, or a model, with rows as it sees them.
        x: Held-out rows, shape (N, \*X).
        train: Rows that training saw, shape (M, \*X); they tell how well the model generalises.
        labels: The label of each row of ``x``, shape (N,), whole numbers from 0.
        train_labels: Those of ``train``.
        factors: The factors of variation of each row of ``x``, shape (N, F), whole numbers from 0.
        objective: What the model was trained with; what it reports and charges is then checked as well.
        split: The name of ``x``, for the result.
        rows: The costly parts take a sample of this many rows.
        samples: The number of draws of the latents for each of those rows.
        seed: The seed of everything that is drawn.
        parts: The names of the parts wanted; by default all.
        time_budget: About how long it may take, seconds. Single passes of the model are timed first, and the dearest
            parts are measured on fewer rows or temperatures, or left out, until all fit; the page says which. None
            for all of everything, which depends on no clock.

    Raises:
        OptionError: If an option is out of range.
        DataError: If the rows cannot be scored, are fewer than two, or labels do not fit them.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> page = check(oracle.model, oracle.model.sample(100), parts=("weights", "use"))
        >>> page.faults, page.use.active
        ([], 2)
    """
    fitted = model if isinstance(model, Fitted) else Fitted(model)
    schema = fitted.schema
    subject = Subject(
        model=fitted.vae,
        x=fitted.model_values(x),
        train=None if train is None else fitted.model_values(train),
        labels=_numbers(labels, "labels"),
        train_labels=_numbers(train_labels, "train_labels"),
        factors=_numbers(factors, "factors"),
        objective=objective,
        log_jacobian=0.0 if schema is None else schema.log_jacobian,
        measure=measure_of(fitted.vae),
        split=split,
        protocol=fitted.protocol,
        rows=rows,
        samples=samples,
        seed=seed,
    )
    return check_subject(subject, parts=parts, time_budget=time_budget)


def _numbers(values: Any, name: str) -> Tensor | None:
    if values is None:
        return None
    numbers = torch.as_tensor(values)
    if numbers.is_floating_point() or numbers.is_complex():
        raise DataError(f"{name} are whole numbers from 0; got {numbers.dtype}.")
    return numbers.long()
