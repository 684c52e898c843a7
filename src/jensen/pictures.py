"""Pictures of rows and of a training, as PNG files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .numbers import QUANTITIES

if TYPE_CHECKING:
    from .walks import LatentMap

__all__ = ["curves", "grid", "latent_map", "pairs", "shares", "traversals"]

Array = NDArray[Any]


def _figure(width: float, height: float) -> Any:
    # The object-oriented interface: no backend is chosen and no global state is touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _as_image(row: Array) -> Array:
    """A row as a picture: images as they are, vectors and others as one strip."""
    if row.ndim == 2 or (row.ndim == 3 and row.shape[-1] in (3, 4)):
        return row
    if row.ndim == 3 and row.shape[-1] == 1:
        return row[..., 0]
    return row.reshape(1, -1)


def _show(axes: Any, row: Array, low: float, high: float) -> None:
    image = _as_image(row)
    if image.ndim == 3:
        image = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
        axes.imshow(image, interpolation="nearest")
    else:
        aspect = "equal" if image.shape[0] > 1 else "auto"
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest", aspect=aspect)
    axes.set_xticks([])
    axes.set_yticks([])


def grid(path: Path, rows: Array, title: str, limits: tuple[float, float]) -> None:
    r"""Writes rows as a grid of pictures.

    Arguments:
        path: The PNG file.
        rows: The rows, shape (N, \*X).
        title: What they are.
        limits: The values shown as black and as white.
    """
    columns = max(1, min(8, math.ceil(math.sqrt(len(rows)))))
    lines = math.ceil(len(rows) / columns)
    strip = _as_image(rows[0]).shape[0] == 1
    figure = _figure(1.1 * columns + 0.4, (0.4 if strip else 1.1) * lines + 0.6)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes, row in zip(panels.flat, rows, strict=False):
        _show(axes, row, *limits)
    for axes in list(panels.flat)[len(rows) :]:
        axes.axis("off")
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path)


def pairs(path: Path, data: Array, reconstructions: Array, title: str, limits: tuple[float, float]) -> None:
    r"""Writes each row beside its reconstruction.

    Arguments:
        path: The PNG file.
        data: The rows, shape (N, \*X).
        reconstructions: What the model makes of them, likewise.
        title: What they are.
        limits: The values shown as black and as white.
    """
    columns = min(4, len(data))
    lines = math.ceil(len(data) / columns)
    strip = _as_image(data[0]).shape[0] == 1
    figure = _figure(2.3 * columns + 0.4, (0.5 if strip else 1.15) * lines + 0.9)
    panels = figure.subplots(lines, 2 * columns, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for index, (row, again) in enumerate(zip(data, reconstructions, strict=True)):
        line, column = divmod(index, columns)
        for offset, (picture, label) in enumerate(((row, "data"), (again, "model"))):
            axes = panels[line, 2 * column + offset]
            axes.axis("on")
            _show(axes, picture, *limits)
            if line == 0:
                axes.set_title(label, fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path)


def curves(path: Path, lines: Sequence[dict[str, Any]], best_step: int, title: str) -> None:
    """Writes the bound on training and validation rows, and the KL, against the step.

    Arguments:
        path: The PNG file.
        lines: The lines of a run's ``metrics.jsonl``.
        best_step: The step whose weights were kept.
        title: What it is.
    """
    figure = _figure(9, 3.4)
    left, right = figure.subplots(1, 2)
    steps = [line["step"] for line in lines]
    trained = [line.get("bound", np.nan) for line in lines]
    held = [(line["step"], line["valid"]) for line in lines if line.get("valid")]
    name = next((name for name in QUANTITIES if held and name in held[0][1]), "elbo")
    left.plot(steps, trained, label="training rows", color="tab:blue", lw=1)
    if held:
        left.plot([s for s, _ in held], [v[name] for _, v in held], label="validation rows", color="tab:orange", lw=1)
        right.plot(
            [s for s, _ in held], [np.nan if v["kl"] is None else v["kl"] for _, v in held], color="tab:green", lw=1
        )
    left.axvline(best_step, color="0.6", ls=":", label=f"kept: step {best_step}")
    values = np.array(trained + [v[name] for _, v in held], dtype=float)
    values = values[np.isfinite(values)]
    if len(values) > 4:
        low, high = np.quantile(values, 0.1), values.max()
        margin = 0.1 * max(high - low, 1e-3)
        left.set_ylim(low - margin, high + margin)
    left.set_title(f"{QUANTITIES[name]}, nats/example (higher is better)", fontsize=9)
    right.set_title("KL(q‖p) on validation rows, nats/example", fontsize=9)
    left.set_xlabel("step")
    right.set_xlabel("step")
    left.legend(fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path)


def traversals(path: Path, rows: Array, names: Sequence[str], title: str, limits: tuple[float, float]) -> None:
    r"""Writes a line of pictures for each of several names.

    Arguments:
        path: The PNG file.
        rows: The rows, shape (T, S, \*X).
        names: What each line is, T of them.
        title: What they are.
        limits: The values shown as black and as white.
    """
    lines, columns = rows.shape[:2]
    strip = _as_image(rows[0, 0]).shape[0] == 1
    figure = _figure(0.8 * columns + 0.9, (0.35 if strip else 0.8) * lines + 0.6)
    panels = figure.subplots(lines, columns, squeeze=False)
    for line, name in enumerate(names):
        for axes, row in zip(panels[line], rows[line], strict=True):
            _show(axes, row, *limits)
        panels[line, 0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center", parse_math=False)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path)


def _tiles(rows: Array) -> Array:
    r"""Rows of shape (L, C, \*X) as one picture, side by side."""
    images = [[_as_image(row) for row in line] for line in rows]
    return np.concatenate([np.concatenate(line, axis=1) for line in images], axis=0)


def latent_map(
    path: Path,
    found: LatentMap,
    title: str,
    limits: tuple[float, float],
    labels: Sequence[int] | None = None,
    names: Sequence[str] = (),
) -> None:
    r"""Writes where rows lie in a space of two latents, and beside it what lies at each place.

    Arguments:
        path: The PNG file.
        found: The map.
        title: What it is.
        limits: The values shown as black and as white.
        labels: The number of each row's label, which then has a colour.
        names: The names of the labels.
    """
    figure = _figure(9.6, 5.0)
    left, right = figure.subplots(1, 2)
    known = np.zeros(len(found.codes), dtype=int) if labels is None else np.asarray(labels)
    shown = {}
    for number in np.unique(known):
        (dots,) = left.plot(*found.codes[known == number].T, ".", ms=3, color=f"C{number % 10}")
        if labels is not None and number < len(names):
            shown[names[number]] = dots
    if shown and len(names) <= 20:
        for text in left.legend(shown.values(), shown.keys(), fontsize=7, markerscale=3, ncols=2).get_texts():
            text.set_parse_math(False)
    left.set_xlabel("latent 0")
    left.set_ylabel("latent 1")
    left.set_title("posterior means of the rows", fontsize=9)
    _show(right, _tiles(found.rows), *limits)
    first, second = found.values
    right.set_xlabel(f"latent 0, from {first[0]:.2g} to {first[-1]:.2g}, even in the prior's probability")
    right.set_ylabel(f"latent 1, from {second[0]:.2g} to {second[-1]:.2g}")
    right.set_title("mean of p(x|z) at each place", fontsize=9)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path)


def shares(path: Path, found: Array, expected: Array, title: str, band: tuple[Array, Array] | None = None) -> None:
    """Writes shares in an order beside those that a prior expects.

    Arguments:
        path: The PNG file.
        found: The shares, shape (T,).
        expected: Their expectation, shape (T,).
        title: What they are.
        band: The lower and the upper ends of the band in which 95 % of each lie under the prior, each of shape (T,).
    """
    figure = _figure(6.4, 3.2)
    axes = figure.subplots()
    places = np.arange(1, len(found) + 1)
    if band is not None:
        axes.fill_between(places, *band, color="0.88", label="95 % of them under the prior")
    axes.plot(places, expected, color="0.5", lw=1, label="expected under the prior")
    axes.plot(places, found, "o-", ms=3, lw=1, color="tab:blue", label="found")
    axes.set_ylim(0, None)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path)
