"""Fixtures that several test files use."""

import os
import sys
from pathlib import Path

import pytest

import jensen.cli


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


@pytest.fixture
def cli(capsys, monkeypatch):
    """Runs the command line in this process: exit code, stdout, stderr."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["jensen", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            jensen.cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def pytest_terminal_summary(terminalreporter):
    """Says how many compositions the contract table accepts."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "compositions":
                terminalreporter.write_line(f"the contract table accepts {value} compositions")
