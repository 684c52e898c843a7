"""Fetching a named data set, only when the user asked for it."""

from __future__ import annotations

import gzip
import hashlib
import os
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from ..errors import DataError

__all__ = ["SOURCES", "fetch"]

_MAX_BYTES = 200 * 2**20

# Of the unpacked content, since mirrors compress it differently.
_MNIST = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_FASHION = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
SOURCES = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist", _MNIST),
    "fashion-mnist": ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion", _FASHION),
}


def fetch(name: str, folder: Path, base: str | None = None) -> None:
    """Fetches the files of a data set into a folder; each is kept only if its content has the known SHA-256.

    Arguments:
        name: A name in :data:`SOURCES`.
        folder: Where the files go.
        base: Where they come from, if not from the usual address.

    Raises:
        DataError: If a file cannot be fetched or is not the known one.
    """
    address, files = SOURCES[name]
    for file, expected in files.items():
        target = folder / file
        if target.exists():
            continue
        url = f"{base or address}/{file}"
        try:
            with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 (a fixed https address)
                content = response.read(_MAX_BYTES)
            found = hashlib.sha256(gzip.decompress(content)).hexdigest()
        except (urllib.error.URLError, OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"could not fetch {url}: {error}. Put the file into {folder} by hand, or set JENSEN_DATA to a folder "
                f"that holds {name}/."
            ) from error
        if found != expected:
            raise DataError(f"{url} is not the known file: expected SHA-256 {expected} unpacked, got {found}.")
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{file}.{os.getpid()}.part")
        partial.write_bytes(content)
        partial.replace(target)
