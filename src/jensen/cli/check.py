"""``jensen check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table

from .show import Flag, Whole, console, print_json, seconds_of

if TYPE_CHECKING:
    from rich.console import Console

    from ..diagnose import GradientNoise, Measured, Page
    from ..numbers import Number

__all__ = ["check"]

_SMALL, _SHOWN = 1e-6, 12
_PHASES = {
    "weights": "drawing weights",
    "annealed": "annealing",
    "bracket": "annealing simulated rows from both sides",
    "gaps": "searching the best posterior of each row",
    "surgery": "comparing all codes with one another",
    "use": "exchanging codes",
    "features": "counting features",
    "gradients": "measuring gradients",
    "calibration": "ranking simulated codes",
    "scale": "stretching posteriors",
    "prior": "telling codes from draws of the prior",
    "labels": "reading labels",
}


def check(
    run: str,
    data: str | None = None,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    rows: Whole = 200,
    k: Annotated[Whole, Parameter(name=["--samples", "-k"])] = 1000,
    seed: Whole | None = None,
    time_budget: str = "3m",
    json: Flag = False,
) -> None:
    """Say on one page whether a run's model is any good, and what limits it.

    Parameters
    ----------
    run
        A run folder.
    data
        The data of the run, needed only where they have moved or came from memory.
    split
        Which rows.
    rows
        The number of rows that the costly parts are measured on.
    k
        The number of samples of the latents for each of those rows.
    seed
        The seed of all noise; by default one that follows from that of the fit.
    time_budget
        About how long it may take, such as 60s, 10m or 1h. Where a model is slow the dearest parts are measured on
        fewer rows, and the page says which.
    json
        Print the page as one JSON object on stdout.
    """
    from ..run.checking import check_run

    out = console()
    with out.status("opening the data …") as status:
        page, document = check_run(
            run,
            data,
            split=split,
            rows=rows,
            samples=k,
            seed=seed,
            time_budget=seconds_of(time_budget),
            told=lambda part: status.update(f"{_PHASES.get(part, part)} …"),
        )
    if json:
        print_json(document)
    else:
        show(page, out)


def show(page: Page, out: Console) -> None:
    """Prints the page: tables, and then what they mean."""
    about = page.about
    sample = f", {about['rows']:,} of them sampled" if about["rows"] < about["n"] else ""
    out.print(f"{about['protocol'] or 'model'} · {about['n']:,} {about['split']} rows{sample}")
    tables = (_log_p, _gaps, _surgery, _latents, _features, _posterior, _gradients, _labels)
    for make in tables:
        table = make(page)
        if table.row_count:
            out.print()
            out.print(table)
    out.print()
    _sentences(page, out)


def _table(title: str, unit: str = "nats/example") -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, min_width=30)
    table.add_column(unit, justify="right", no_wrap=True, min_width=18)
    table.add_column("")
    return table


def _value(number: Measured | Number | None, digits: int = 2) -> str:
    from ..numbers import Number

    if number is None:
        return "–"
    value = number.mean if isinstance(number, Number) else number.value
    error = "" if number.se == 0 else f" ± {number.se:.{digits}f}"
    return f"{value:.{digits}f}{error}"


def _log_p(page: Page) -> Table:
    table = _table("log p(x)")
    weights = page.weights
    if weights is not None:
        table.add_row("ELBO", _value(weights.elbo), f"MC se {weights.elbo.mc_se:.2g}")
        for k, number in weights.bounds.items():
            if k > 1:
                table.add_row(f"≥ by {k:,} weights", _value(number), f"MC se {number.mc_se:.2g}, ESS {number.ess:.3g}")
        for order, number in weights.jackknife.items():
            told = f"jackknife of {number.k} weights, an estimate and no bound; MC se {number.mc_se:.2g}"
            table.add_row(f"≈ JVI-{order}", _value(number), told)
        if weights.unreliable is not None:
            told = f"rows with k̂ above {weights.threshold:.2f}, where {weights.draws:,} weights are too few"
            table.add_row("unreliable", f"{weights.unreliable:.0%}", told)
    if page.annealed is not None:
        ais, plain = page.annealed["ais"], page.annealed["iwae"]
        told = f"on {ais.n} rows; by {plain.k:,} weights these have {plain.mean:.2f}; MC se {ais.mc_se:.2g}"
        table.add_row("≥ by annealing", _value(ais), told)
    if page.bracket is not None:
        lower, upper = page.bracket["lower"], page.bracket["upper"]
        between = f"{lower.mean:.2f} to {upper.mean:.2f}"
        told = f"annealed from both sides on {lower.n} simulated rows; MC se {lower.mc_se:.2g} and {upper.mc_se:.2g}"
        table.add_row("on rows of the model itself", between, told)
    return table


def _gaps(page: Page) -> Table:
    from ..diagnose.gaps import BIASES

    gaps = page.gaps
    table = Table(title="what the ELBO lacks", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, min_width=30)
    columns = {"training rows": gaps and gaps.train, f"{page.about['split']} rows": gaps and gaps.held_out}
    known = {name: part for name, part in columns.items() if part}
    for name in known:
        table.add_column(name, justify="right", no_wrap=True, min_width=18)
    table.add_column("biased")
    if gaps is None:
        return table
    for name in ("approximation", "amortisation"):
        cells = [_value(getattr(part, name)) for part in known.values()]
        table.add_row(f"{name}: {_CAUSES[name]}", *cells, BIASES[name])
    if gaps.generalisation is not None:
        table.add_row(f"generalisation: {_CAUSES['generalisation']}", "", _value(gaps.generalisation), "")
    return table


_CAUSES = {"approximation": "the family", "amortisation": "the encoder", "generalisation": "new rows"}


def _surgery(page: Page) -> Table:
    table = _table("what the KL is made of")
    surgery = page.surgery
    if surgery is None:
        return table
    table.add_row("average KL", _value(surgery.mean_kl), f"over all {surgery.n:,} rows")
    told = f"what a code says about its row; at most log {surgery.n:,} = {surgery.ceiling:.2f}"
    table.add_row("= mutual information", _value(surgery.mutual_information), told)
    table.add_row("+ marginal KL", _value(surgery.marginal_kl), "how far all codes together are from the prior")
    if surgery.total_correlation is not None:
        table.add_row("   of it total correlation", _value(surgery.total_correlation), "between latents")
    if surgery.dimension_wise is not None:
        table.add_row("   of it dimension-wise", _value(surgery.dimension_wise), "of each latent by itself")
    table.add_row("residual", _value(surgery.residual), "zero within its error, from draws of their own")
    return table


def _latents(page: Page) -> Table:
    table = _table("latents and prior")
    use, prior = page.use, page.prior
    if use is not None:
        low, high = use.active_interval
        told = f"of {len(use.mean_variance)}; 95% interval {low} to {high}"
        table.add_row("active latents", str(use.active), told)
        if use.kl_per_latent is not None:
            ordered = sorted(use.kl_per_latent.tolist(), reverse=True)
            table.add_row("KL of each, largest first", _value(use.kl), _some(ordered, digits=1))
        table.add_row("z of another row costs", _value(use.other_rows), "of log p(x|z): how much the decoder uses z")
        table.add_row("z of the prior costs", _value(use.from_prior), "of log p(x|z)")
    if prior is not None:
        told = "by a classifier; 50% where the prior fits the codes"
        table.add_row("codes told from the prior", f"{prior.accuracy.value:.0%} ± {prior.accuracy.se:.0%}", told)
    return table


def _features(page: Page) -> Table:
    table = _table("features that are on or off", unit="")
    found = page.features
    if found is None:
        return table
    table.add_row("in use", str(found.used), f"of {len(found.found)}: they tell rows apart")
    table.add_row("share of rows, largest first", "", _some(found.found.tolist()))
    table.add_row("expected under the prior", "", _some(found.mean.tolist()))
    told = f"of these places; {found.inside_in_use:.0%} where features that are not in use count as off"
    table.add_row("in the prior's 95% band", f"{found.inside:.0%}", told)
    return table


def _some(values: list[float], digits: int = 2) -> str:
    """The first of many values."""
    return " ".join(f"{value:.{digits}f}" for value in values[:_SHOWN]) + (" …" if len(values) > _SHOWN else "")


def _posterior(page: Page) -> Table:
    table = _table("calibration of q(z|x)", unit="")
    scale, found = page.scale, page.calibration
    if scale is not None:
        told = f"times its deviations; the bound would gain {_value(scale.gain)} nats"
        table.add_row("best scale", f"{scale.best:.2f} ± {scale.best * scale.log_error:.2f}", told)
    if found is not None:
        told = f"on {len(found.ranks)} simulated rows; the smallest of {len(found.p_values)} latents, corrected"
        smallest = min(1.0, len(found.p_values) * float(found.p_values.min()))
        table.add_row("ranks of z are uniform", _probability(smallest), told)
        table.add_row("ranks of log p(x, z) are", _probability(found.joint_p_value), "the most sensitive of the tests")
        told = "posterior deviations, root mean square of the worst latent; 1 is right"
        table.add_row("z lies from its posterior", _value(found.distance), told)
    return table


def _probability(p: float) -> str:
    return f"p = {p:.2g}" if p >= _SMALL else f"p < {_SMALL:g}"


def _gradients(page: Page) -> Table:
    table = Table(
        title="noise of gradients, one batch", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("", no_wrap=True, min_width=30)
    for heading in ("encoder variance", "SNR", "decoder variance", "SNR"):
        table.add_column(heading, justify="right", no_wrap=True)
    for target, noise in (page.gradients or {}).items():
        for name, parts in noise.items():
            table.add_row(f"{target}: {name}", *_noise(parts.get("encoder")), *_noise(parts.get("decoder")))
    return table


def _noise(noise: GradientNoise | None) -> tuple[str, str]:
    if noise is None:
        return "–", "–"
    return f"{noise.variance.value:.3g} ± {noise.variance.se:.1g}", f"{noise.snr:.2f}"


def _labels(page: Page) -> Table:
    table = _table("labels read from", unit="linear")
    table.columns[2].header = "ten neighbours"
    for name, probe in (page.labels or {}).items():
        shown = {"means": "posterior means", "samples": "posterior samples", "rows": "the rows themselves"}[name]
        table.add_row(shown, _percent(probe.linear), _percent(probe.neighbours))
    return table


def _percent(number: Any) -> str:
    return f"{number.value:.1%} ± {number.se:.1%}"


_SIGNS = {"fault": ("fault", "bold red"), "limit": ("limit", "bold yellow"), "note": ("note ", "dim")}


def _sentences(page: Page, out: Console) -> None:
    """What was found, what it means, and what to change."""
    from rich.text import Text

    for finding in page.findings:
        text = f"  {finding.found} {finding.meaning}".rstrip()
        out.print(Text.assemble(_SIGNS[finding.kind], text), soft_wrap=True)
        if finding.change:
            out.print(f"       → {finding.change}", soft_wrap=True)
    absent = [f"{name}: {why}" for name, why in page.skipped.items() if name not in _OPTIONAL]
    for line in absent:
        out.print(Text.assemble(("left out", "dim"), f"  {line}"), soft_wrap=True)
    if not page.faults:
        out.print("no fault found")


_OPTIONAL = {"features", "labels", "information_gap", "disentanglement"}
"""Parts that need labels, factors or a model of features, whose absence is no news."""
