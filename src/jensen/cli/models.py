"""``jensen models``."""

from __future__ import annotations

from rich.table import Table

from .show import Flag, console, print_json

__all__ = ["models"]


def models(*, json: Flag = False) -> None:
    """List the models that can be fitted, with the paper and the data each suits.

    Parameters
    ----------
    json
        Print the list as one JSON object on stdout.
    """
    from ..zoo import MODELS

    if json:
        entries = [{"name": e.name, "summary": e.summary, "paper": e.paper, "data": e.data} for e in MODELS.values()]
        print_json({"models": entries})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("model", "what it is", "paper", "data"):
        table.add_column(column)
    for entry in MODELS.values():
        table.add_row(entry.name, entry.summary, entry.paper, entry.data)
    console().print(table)
    console().print("\njensen fit DATA --model NAME fits one; jensen fit --model NAME --help lists its options.")
