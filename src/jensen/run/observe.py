"""Who is told what a fit finds, chooses and does."""

from __future__ import annotations

import logging
from typing import Protocol

from ..data import SPLITS, Splits
from ..data.vocabulary import SPECIAL
from ..recipe import Choice
from ..train import Profile, Report

__all__ = ["Log", "Observer", "describe_data"]


class Observer(Protocol):
    """Who is told what a fit does; the command line prints it, Python logs it."""

    def found(self, splits: Splits) -> None: ...

    def chose(self, choices: list[Choice], parameters: int) -> None: ...

    def report(self, report: Report) -> None: ...

    def phase(self, text: str) -> None: ...

    def profiled(self, profile: Profile) -> None: ...


class Log:
    """An observer that writes to the logger ``jensen``."""

    logger = logging.getLogger("jensen")

    def found(self, splits: Splits) -> None:
        self.logger.info("found %s", describe_data(splits))

    def chose(self, choices: list[Choice], parameters: int) -> None:
        for choice in choices:
            self.logger.info("%s: %s (%s; %s)", choice.what, choice.value, choice.reason, choice.option)

    def report(self, report: Report) -> None:
        self.logger.info("step %d of %d: %s", report.line["step"], report.steps, report.line.get("valid"))
        for warning in report.line.get("warnings", []):
            self.logger.warning("%s", warning)

    def phase(self, text: str) -> None:
        self.logger.info("%s", text)

    def profiled(self, profile: Profile) -> None:
        self.logger.info("%s", profile.sentence())


def describe_data(splits: Splits) -> str:
    """What was found in the data, in one line."""
    schema = splits.schema
    counts = ", ".join(f"{len(splits.stored[s]):,} {s}" for s in SPLITS)
    labels = f"; {len(splits.label_names):,} labels" if splits.labels else ""
    return f"{schema.name}: {_rows_of(splits)}; {counts} ({splits.rule}){labels}"


def _rows_of(splits: Splits) -> str:
    """What a row is, in words."""
    schema = splits.schema
    if schema.vocabulary is not None:
        count = sum(len(rows) for rows in splits.stored.values())
        tokens = _TOKENS[schema.vocabulary.level]
        known = f"a vocabulary of {schema.levels - len(SPECIAL):,} {tokens}"
        if schema.chunks:
            return f"{count:,} pieces of {schema.size} {tokens} of a text that runs on; {known}"
        return f"{count:,} sentences of at most {schema.size} {tokens}, ends included; {known}"
    shape = "×".join(map(str, schema.event_shape))
    values = f"{schema.dtype}, continuous"
    if schema.kind != "continuous":
        last = schema.offset + schema.step * (schema.levels - 1)
        values = f"{schema.dtype}, {schema.levels} levels from {schema.offset:g} to {last:g}"
    return f"{shape} = {schema.size} values per row, {values}"


_TOKENS = {"word": "words and marks", "char": "characters", "byte": "bytes", "bpe": "pieces"}
