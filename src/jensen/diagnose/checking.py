"""All parts of a page, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from ..errors import DataError, JensenError, OptionError
from ..evaluation import check_data, evidence_of
from ..inference.proposals import why_lacking
from ..numbers import whole
from . import budget
from .findings import Finding
from .page import Page, Subject
from .parts import IDENTITIES, PARTS
from .sentences import findings

__all__ = ["check_subject", "why_unchecked"]

_LEAST_ROWS = 2
_OF_ONE_GROUP = ("annealed", "bracket", "gaps", "gradients", "calibration", "scale", "prior")
_OF_A_SPREAD = ("annealed", "bracket", "gaps", "gradients", "calibration", "scale", "use", "prior")


def check_subject(
    subject: Subject,
    *,
    parts: tuple[str, ...] = tuple(PARTS),
    time_budget: float | None = None,
    told: Callable[[str], None] | None = None,
) -> Page:
    """The page of a subject that is in model values already; ``told`` hears what is being measured."""
    _validate(subject, parts, time_budget)
    skipped = {name: why for name in parts if (why := _inapplicable(subject.model, name)) is not None}
    plan = None
    if time_budget is not None:
        wanted = ("identities", *(name for name in parts if name not in skipped))
        plan = budget.plan_parts(
            subject, budget.measure_pace(subject.model, subject.x, subject.seed), wanted, time_budget
        )
        subject = replace(subject, shares=plan.shares)
        skipped |= {name: budget.reason(least, time_budget) for name, least in plan.left_out.items()}
    found: dict[str, Any] = {}
    for name in parts:
        if name in skipped:
            continue
        if told is not None:
            told(name)
        try:
            found[name] = PARTS[name](subject)
        except JensenError as error:
            skipped[name] = str(error)
    faults: list[Finding] = []
    for identity in () if "identities" in skipped else IDENTITIES:
        try:
            faults += identity(subject)
        except JensenError as error:  # such as an objective that wants latents as they are in training
            skipped["identities"] = str(error)
    page = Page(about=_about(subject), skipped=skipped, findings=faults, **found)
    note = None if plan is None or time_budget is None else budget.told(plan, time_budget, set(skipped))
    return replace(page, findings=[*findings(page), *([] if note is None else [note])])


def _inapplicable(model: Any, name: str) -> str | None:
    """Why a part does not apply to a model; None where it does."""
    lacking = why_lacking(model, "prior", "posterior")
    if name in _OF_ONE_GROUP and lacking is not None:
        return lacking
    if name == "gradients" and evidence_of(model) == "predictive":
        return (
            f"{type(model).__name__} has latents that all rows share, which are drawn without a gradient in evaluation "
            "mode, where a check measures."
        )
    if name == "gaps" and not isinstance(model.posterior, nn.Module):
        return f"searches the family of one posterior module; {type(model).__name__} makes q(z|x) of several parts."
    if name in _OF_A_SPREAD and getattr(getattr(model, "posterior", None), "deterministic", False):
        return "needs a posterior that spreads over z; here q(z|x) is one code, and its bound is what it is."
    return None


def _validate(subject: Subject, parts: tuple[str, ...], time_budget: float | None) -> None:
    refusal = why_unchecked(subject.model)
    if refusal is not None:
        raise OptionError(refusal)
    if time_budget is not None and not 0 < time_budget < math.inf:
        raise OptionError(f"a time budget is a positive number of seconds; got {time_budget}.")
    for name, value in (("rows", subject.rows), ("samples", subject.samples)):
        whole(value, _LEAST_ROWS, f"a check needs at least {_LEAST_ROWS} {name}")
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise OptionError(f"there is no part {unknown[0]!r}; choose among {', '.join(PARTS)}.")
    check_data(subject.model, subject.x)
    if len(subject.x) < _LEAST_ROWS:
        raise DataError(
            f"a check needs at least {_LEAST_ROWS} rows, to tell how much they differ; the {subject.split} rows are "
            f"{len(subject.x)}. Give more rows."
        )
    if subject.train is not None:
        check_data(subject.model, subject.train)
    for name, values, rows in (
        ("labels", subject.labels, subject.x),
        ("train_labels", subject.train_labels, subject.train),
        ("factors", subject.factors, subject.x),
    ):
        if values is not None and (rows is None or len(values) != len(rows)):
            raise DataError(f"{name} has {len(values)} entries for {0 if rows is None else len(rows)} rows.")


def why_unchecked(model: Any) -> str | None:
    """Why nothing of a page can be measured of a model, and what to do instead; None where it can."""
    evidence = getattr(model, "evidence", "lower")
    if evidence == "exact":
        return (
            f"a check is about latents and the distance of a bound from log p(x); {type(model).__name__} has no "
            "latents, and its log p(x) is exact. See how good it is with: jensen evaluate RUN."
        )
    if evidence == "none":
        return (
            f"a check is about a posterior and the bound that it gives; {type(model).__name__} has no q(z|x) or no "
            "p(z), and so no bound. See how well its codes tell labels with: jensen classify RUN."
        )
    if getattr(model, "sums_exactly", False):
        return (
            f"a check takes log-weights apart into log p(x, z) − log q(z|x); those of {type(model).__name__} are sums "
            "over all classes, which have no such parts. See its bound and accuracy with: jensen evaluate RUN."
        )
    if getattr(model, "conditions", 0):
        return (
            "a check is about p(x); this model is of rows given their labels, p(x|label), and a check does not give "
            "it any. See its bound with: jensen evaluate RUN."
        )
    return None


def _about(subject: Subject) -> dict[str, Any]:
    return {
        "split": subject.split,
        "n": len(subject.x),
        "n_train": None if subject.train is None else len(subject.train),
        "rows": min(subject.rows, len(subject.x)),
        "samples": subject.samples,
        "seed": subject.seed,
        "shares": {part: share for part, share in subject.shares.items() if share < 1},
        "measure": subject.measure,
        "protocol": subject.protocol,
    }
