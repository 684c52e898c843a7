"""Pictures of rows of any shape are written, and are pictures."""

import numpy as np
import pytest
from PIL import Image

from jensen import pictures

SHAPES = [(1,), (7,), (1, 1), (5, 7), (1, 1, 1), (5, 7, 1), (5, 7, 3), (3, 5, 7), (2, 2, 2, 2)]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


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
        pictures.grid(tmp_path / "a.png", np.full((2, *shape), limits[0]), "", limits)


@pytest.mark.parametrize("count", [0, 1, 8])
@pytest.mark.parametrize("kl", [None, 2.0])
def test_curves_of_any_length(tmp_path, count, kl):
    lines = [{"step": i + 1, "bound": -100.0 + i, "valid": {"elbo": -101.0 + i, "kl": kl}} for i in range(count)]
    pictures.curves(tmp_path / "c.png", lines, max(count, 1), "curves")
    assert pixels(tmp_path / "c.png").size > 1000


def test_a_title_is_text_and_no_formula(tmp_path):
    pictures.grid(tmp_path / "a.png", np.zeros((1, 3)), r"$\frac{ $x_ & [red]", (0.0, 1.0))
