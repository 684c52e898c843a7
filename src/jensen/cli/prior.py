"""``jensen fit-prior``."""

from __future__ import annotations

import shlex
from typing import Literal

from .show import ConsoleObserver, Flag, Whole, evaluation_table, print_json

__all__ = ["fit_prior"]


def fit_prior(
    run: str,
    data: str | None = None,
    /,
    *,
    prior: Literal["mixture", "flow"] = "mixture",
    out: str | None = None,
    components: Whole = 50,
    steps: Whole = 5000,
    seed: Whole = 0,
    json: Flag = False,
) -> None:
    """Fit a new prior to the codes of a run's training rows; encoder and decoder stay as they are.

    Parameters
    ----------
    run
        A finished run.
    data
        The data of the run, needed only where they have moved or came from memory.
    prior
        A mixture of normals, or a normalising flow.
    out
        The new run folder, which must not exist; by default the name of the old one with the name of the prior.
    components
        The number of normals of a mixture.
    steps
        The most steps.
    seed
        The seed of the fit.
    json
        Print the result as one JSON object on stdout.
    """
    from ..run.following import what_follows
    from ..run.prior import fit_prior_run

    observer = ConsoleObserver()
    found, record = fit_prior_run(
        run, prior, data, out=out, components=components, steps=steps, seed=seed, observer=observer
    )
    if json:
        print_json(found.result)
        return
    observer.console.print(evaluation_table(found.result))
    gain = record.gain
    observer.say(f"the new prior gains {gain.mean:.2f} ± {gain.se:.2f} nats/example on {gain.n:,} validation rows")
    following = [*what_follows(found), f"jensen compare {shlex.quote(run)} {shlex.quote(str(found.path))}"]
    observer.say(f"next: {' · '.join(following)}")
