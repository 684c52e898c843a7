"""``jensen classify``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from .show import Flag, Whole, console, print_json

__all__ = ["classify"]


def classify(
    run: str,
    data: str | None = None,
    /,
    *,
    labels: Annotated[list[Whole] | None, Parameter(negative=())] = None,
    frozen: Flag = False,
    fine_tuned: Flag = False,
    seeds: Whole = 5,
    steps: Whole = 1000,
    seed: Whole = 0,
    json: Flag = False,
) -> None:
    """Classify a run's rows from few labels, starting with its encoder, beside the same network from scratch.

    Parameters
    ----------
    run
        A run folder, of an autoencoder or another model with an encoder.
    data
        The data of the run, needed only where they have moved or came from memory.
    labels
        How many labels to learn from, as many of each class; may be given several times. By default 100, 1000 and
        10000, as far as there are rows.
    frozen
        Only with the encoder as it is, under a new linear layer; by default both ways.
    fine_tuned
        Only with the encoder trained on.
    seeds
        How many times each; a seed chooses the labelled rows, the new weights and the order.
    steps
        The number of steps of each.
    seed
        The first seed.
    json
        Print the result as one JSON object on stdout.
    """
    from ..classify import Start
    from ..run.classify import classify_run

    both = frozen == fine_tuned
    starts: list[Start] = [*(["frozen"] if frozen or both else []), *(["fine-tuned"] if fine_tuned or both else [])]  # type: ignore[list-item]
    shown = console()
    trials, document = classify_run(
        run,
        data,
        labels=labels,
        starts=starts,
        seeds=seeds,
        steps=steps,
        seed=seed,
        told=lambda text: shown.print(text),
    )
    if json:
        print_json(document)
        return
    title = f"{document['protocol']} · {document['n_test']:,} test rows · {seeds} seeds"
    table = Table(title=title, title_justify="left", box=None)
    for column in ("labels", "start", "accuracy", "gain over scratch, paired"):
        table.add_column(column, no_wrap=True)
    for trial in trials:
        gain = "" if trial.gain is None else f"{trial.gain:+.2%}{_error(trial.gain_se)}"
        table.add_row(str(trial.labels), trial.start, f"{trial.mean:.2%}{_error(trial.se)}", gain)
    shown.print(table)


def _error(se: float | None) -> str:
    return "" if se is None else f" ± {se:.2%}"
