"""``jensen.check``: all parts of a page, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, JensenError, OptionError
from ..evaluation import check_data
from ..fitted import Fitted
from .page import Page, Subject
from .parts import PARTS, identities
from .sentences import findings

__all__ = ["check", "check_subject"]

_LEAST_ROWS = 2


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

    Raises:
        OptionError: If an option is out of range.
        DataError: If the rows cannot be scored, or labels do not fit them.

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
        measure=getattr(fitted.vae.likelihood, "measure", "density"),
        split=split,
        protocol=fitted.protocol,
        rows=rows,
        samples=samples,
        seed=seed,
    )
    return check_subject(subject, parts=parts)


def _numbers(values: Any, name: str) -> Tensor | None:
    if values is None:
        return None
    numbers = torch.as_tensor(values)
    if numbers.is_floating_point() or numbers.is_complex():
        raise DataError(f"{name} are whole numbers from 0; got {numbers.dtype}.")
    return numbers.long()


_OF_ONE_GROUP = ("annealed", "bracket", "gaps", "gradients", "calibration", "scale", "prior")
_OF_A_SPREAD = ("annealed", "bracket", "gaps", "gradients", "calibration", "scale", "use", "prior")


def check_subject(
    subject: Subject, *, parts: tuple[str, ...] = tuple(PARTS), told: Callable[[str], None] | None = None
) -> Page:
    """The page of a subject that is in model values already; ``told`` hears what is being measured."""
    _validate(subject, parts)
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in parts:
        if told is not None:
            told(name)
        if name in _OF_ONE_GROUP and not all(hasattr(subject.model, role) for role in ("prior", "posterior")):
            skipped[name] = f"needs a model with one prior and one posterior; {type(subject.model).__name__} has not."
            continue
        if name in _OF_A_SPREAD and getattr(getattr(subject.model, "posterior", None), "deterministic", False):
            skipped[name] = (
                "needs a posterior that spreads over z; here q(z|x) is one code, and its bound is what it is."
            )
            continue
        try:
            found[name] = PARTS[name](subject)
        except JensenError as error:
            skipped[name] = str(error)
    page = Page(about=_about(subject), skipped=skipped, findings=identities(subject), **found)
    return replace(page, findings=findings(page))


def _validate(subject: Subject, parts: tuple[str, ...]) -> None:
    if subject.rows < _LEAST_ROWS or subject.samples < _LEAST_ROWS:
        raise OptionError(
            f"a check needs at least {_LEAST_ROWS} rows and samples; got rows={subject.rows}, "
            f"samples={subject.samples}."
        )
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise OptionError(f"there is no part {unknown[0]!r}; choose among {', '.join(PARTS)}.")
    check_data(subject.model, subject.x)
    if subject.train is not None:
        check_data(subject.model, subject.train)
    for name, values, rows in (
        ("labels", subject.labels, subject.x),
        ("train_labels", subject.train_labels, subject.train),
        ("factors", subject.factors, subject.x),
    ):
        if values is not None and (rows is None or len(values) != len(rows)):
            raise DataError(f"{name} has {len(values)} entries for {0 if rows is None else len(rows)} rows.")


def _about(subject: Subject) -> dict[str, Any]:
    return {
        "split": subject.split,
        "n": len(subject.x),
        "n_train": None if subject.train is None else len(subject.train),
        "rows": min(subject.rows, len(subject.x)),
        "samples": subject.samples,
        "seed": subject.seed,
        "measure": subject.measure,
        "protocol": subject.protocol,
    }
