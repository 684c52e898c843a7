"""Pictures of rows of any shape are written, and are pictures."""

import numpy as np
import pytest
from PIL import Image

import jensen
from jensen import pictures

SHAPES = [(1,), (7,), (1, 1), (5, 7), (1, 1, 1), (5, 7, 1), (5, 7, 3), (3, 5, 7), (2, 2, 2, 2)]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


TABLEAU = {"blue": (31, 119, 180), "orange": (255, 127, 14), "green": (44, 160, 44)}


def share_of_columns(path, rgb):
    """How much of a picture's width a colour spans."""
    with Image.open(path) as image:
        near = np.abs(np.asarray(image.convert("RGB")).astype(int) - rgb).max(-1) < 12
    return float(near.any(0).mean())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 5])
def test_rows_of_any_shape(tmp_path, shape, count):
    rows = np.random.default_rng(0).random((count, *shape))
    pictures.grid(tmp_path / "a.png", rows, "rows", (0.0, 1.0))
    pictures.pairs(tmp_path / "b.png", rows, rows[::-1], "pairs", (0.0, 1.0))
    for name in ("a.png", "b.png"):
        assert pixels(tmp_path / name).min() < 100 < pixels(tmp_path / name).max()


def test_the_limits_are_black_and_white(tmp_path):
    pictures.grid(tmp_path / "black.png", np.zeros((1, 9, 9)), "", (0.0, 1.0))
    pictures.grid(tmp_path / "white.png", np.ones((1, 9, 9)), "", (0.0, 1.0))
    black, white = (pixels(tmp_path / f"{name}.png") for name in ("black", "white"))
    middle = tuple(size // 2 for size in black.shape)
    assert black[middle] < 5 and white[middle] > 250


@pytest.mark.parametrize("limits", [(0.0, 0.0), (-1e30, 1e30), (5.0, 5.0 + 1e-12)])
def test_narrow_and_wide_limits(tmp_path, limits):
    for shape in ((4, 3), (4, 3, 3)):
        pictures.grid(tmp_path / "a.png", np.full((1, *shape), limits[0]), "", limits)
        found = pixels(tmp_path / "a.png")
        assert found[found.shape[0] // 2, found.shape[1] // 2] < 5


@pytest.mark.parametrize(
    ("count", "kl", "expected"),
    [
        (0, None, []),
        (1, 2.0, []),
        (8, None, ["blue", "orange"]),
        (8, 2.0, ["blue", "orange", "green"]),
    ],
)
def test_curves_of_any_length(tmp_path, count, kl, expected):
    lines = [
        {"step": i + 1, "bound": -100.0 + i, "valid": {"elbo": -101.0 + i, "kl": kl and kl + i}} for i in range(count)
    ]
    pictures.curves(tmp_path / "c.png", lines, max(count, 1), "curves")
    drawn = {colour: share_of_columns(tmp_path / "c.png", rgb) for colour, rgb in TABLEAU.items()}
    assert [name for name, share in drawn.items() if share > 0.2] == expected


def test_a_title_is_text_and_no_formula(tmp_path):
    for name, title in (("a.png", r"$\frac{ $x_ & [red]"), ("b.png", "")):
        pictures.grid(tmp_path / name, np.zeros((1, 3)), title, (0.0, 1.0))
    # The title stands above the picture, with white between them.
    dark = [(pixels(tmp_path / name) < 100).any(1) for name in ("a.png", "b.png")]
    assert [int((rows[1:] & ~rows[:-1]).sum()) for rows in dark] == [2, 1]


@pytest.mark.parametrize(
    ("white", "options", "expected"), [(255, {}, (0.0, 255.0)), (16, {"binarisation": "static"}, (0.0, 1.0))]
)
def test_a_run_draws_its_values_from_black_to_white(tmp_path, monkeypatch, white, options, expected):
    limits = []
    monkeypatch.setattr(pictures, "grid", lambda path, rows, title, drawn: limits.append(drawn))
    random = np.random.default_rng(0)
    x = white * (random.random((60, 4, 4)) < 0.5) if not options else random.integers(white + 1, size=(60, 4, 4))
    run = jensen.fit(x.astype(np.uint8), out=tmp_path / "run", steps=5, samples=5, hidden=[8], **options)
    assert run.model.schema.limits == expected and set(limits) == {expected}
