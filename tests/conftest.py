"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data():
    """A function from the name of a folder in JENSEN_DATA to its path; the test is skipped where there is none."""

    def find(name):
        root = os.environ.get("JENSEN_DATA")
        if not root:
            pytest.skip("JENSEN_DATA is not set")
        folder = Path(root) / name
        if not folder.is_dir():
            pytest.skip(f"JENSEN_DATA has no folder {name}")
        return folder

    return find
