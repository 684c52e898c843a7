"""``jensen evaluate`` and ``jensen compare``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from ..numbers import QUANTITIES, Precision
from .show import Flag, Whole, console, evaluation_table, print_json

__all__ = ["compare", "evaluate"]


def evaluate(
    run: str,
    data: str | None = None,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    k: Annotated[Whole | None, Parameter(name=["--samples", "-k"])] = None,
    seed: Whole | None = None,
    precision: Precision = "fp32",
    json: Flag = False,
) -> None:
    """Score rows of a run: the ELBO and the bound on log p(x), each with both its errors, beside the baselines.

    Parameters
    ----------
    run
        A run folder.
    data
        The data of the run, needed only where they have moved or came from memory.
    split
        Which rows.
    k
        The number of samples K for each row; by default that of the fit.
    seed
        The seed of the noise; by default that of the fit's own evaluation.
    precision
        What networks compute in: bf16 may take half the time, and rounds what they say; the rest is fp32 or better.
    json
        Print the result as one JSON object on stdout.
    """
    from ..run import evaluate_run

    _, document = evaluate_run(run, data, split=split, k=k, seed=seed, precision=precision)
    if json:
        print_json(document)
    else:
        console().print(evaluation_table(document))


def compare(first: str, second: str, /, *, json: Flag = False) -> None:
    """Compare the test bounds of two runs, paired over the same rows; refused where the numbers do not compare.

    Parameters
    ----------
    first
        A finished run.
    second
        Another.
    json
        Print the result as one JSON object on stdout.
    """
    from .. import run

    document = run.compare(first, second)
    if json:
        print_json(document)
        return
    table = Table(title=document["protocol"], title_justify="left", box=None)
    for column in ("nats/example", first, second, "difference"):
        table.add_column(column)
    for name in (name for name in QUANTITIES if name in document):
        row = document[name]
        a, b = (run.number_of(number) for number in row["numbers"])
        error = float("nan") if row["difference_se"] is None else row["difference_se"]
        cells = (f"{a.mean:.2f} ± {a.se:.2f}", f"{b.mean:.2f} ± {b.se:.2f}", f"{row['difference']:+.2f} ± {error:.2f}")
        table.add_row(QUANTITIES[name], *cells)
    console().print(table)
    if document["note"]:
        console().print(f"note: {document['note']}.")
