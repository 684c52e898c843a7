"""Text files as sentences, and what their rows are."""

from __future__ import annotations

import codecs
import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, FileFormatError, OptionError
from .schema import Schema
from .vocabulary import END, PAD, UNKNOWN, Level, Vocabulary, build_vocabulary, spans_of

__all__ = [
    "TextOptions",
    "chunks_of",
    "content_of",
    "is_sentences",
    "is_text_file",
    "read_sentences",
    "text_files",
    "text_remarks",
    "text_schema",
]

_MOST = {"word": 10_000, "char": 1_000, "byte": 256, "bpe": 5_000}
_LONGEST = {"word": 64, "char": 256, "byte": 256, "bpe": 96}
_MAX_RATIO, _GRACE = 250, 2**20  # of unpacked to packed size
_MAX_BYTES = 2**31
_ABOUT = ("license", "licence", "readme", "copying")


@dataclass(frozen=True)
class TextOptions:
    """How sentences become rows.

    Arguments:
        level: What a token is.
        vocabulary: The largest number of tokens beside the special ones; None for one that suits the level.
        max_length: The largest number of tokens in a row; None for what holds 99 of 100 training sentences.
        known: The vocabulary itself, where the rows of an earlier fit are made again.
        chunks: Whether the text runs on from line to line and is cut into rows of ``max_length`` tokens; by default a
            row is a line.
    """

    level: Level = "word"
    vocabulary: int | None = None
    max_length: int | None = None
    known: Vocabulary | None = None
    chunks: bool = False

    @staticmethod
    def of(schema: Schema) -> TextOptions | None:
        """Those that make the rows of a schema again; None where rows are not sentences."""
        found = schema.vocabulary
        return None if found is None else TextOptions(found.level, found.count, schema.size, found, schema.chunks)


def is_text_file(path: Path) -> bool:
    """Whether a file is a text by its name."""
    return path.name.lower().endswith((".txt", ".txt.gz"))


def text_files(folder: Path) -> list[Path]:
    """The texts in a folder, without those that tell about it."""
    return sorted(p for p in folder.iterdir() if is_text_file(p) and not p.name.lower().startswith(_ABOUT))


def is_sentences(data: Any) -> bool:
    """Whether rows from memory are strings."""
    if isinstance(data, np.ndarray):
        return data.ndim == 1 and data.dtype.kind in "UO" and _all_strings(data.tolist())
    return isinstance(data, list | tuple) and _all_strings(data)


def _all_strings(values: Any) -> bool:
    return len(values) > 0 and all(isinstance(value, str) for value in values)


def read_sentences(path: Path) -> tuple[NDArray[Any], list[str]]:
    """The lines of a text file that are not blank, and what was noticed.

    Raises:
        FileFormatError: If it is not a text.
        DataError: If it has no lines.
    """
    raw = _unpacked(path) if path.suffix == ".gz" else _read(path)
    text, notes = _decoded(raw, path)
    lines = [line.strip() for line in text.splitlines()]
    sentences = [line for line in lines if line]
    if not sentences:
        raise DataError(f"{path} holds no sentences: it is empty, or blank. Give a text with one sentence in a line.")
    return np.array(sentences, dtype=object), notes


def chunks_of(lines: NDArray[Any], options: TextOptions) -> NDArray[Any]:
    r"""The pieces of a text that runs on from line to line, each of as many tokens as a row holds, the last of fewer.

    Arguments:
        lines: Its lines.
        options: How sentences become rows.

    Raises:
        OptionError: If the tokens are pieces, which are found only once there are rows, or a character has more bytes
            than a row holds.

    Example:
        >>> chunks_of(np.array(["To be, or", "not to be"]), TextOptions("word", max_length=4)).tolist()
        ['To be, or', 'not to be']
        >>> chunks_of(np.array(["To be, or", "not to be"]), TextOptions("char", max_length=6)).tolist()
        ['To be,', ' or\nno', 't to b', 'e']
    """
    if options.level == "bpe":
        raise OptionError("--chunks cuts a text before its pieces are known. Use --level word, char or byte with it.")
    text, length = "\n".join(str(line) for line in lines), options.max_length or _LONGEST[options.level]
    spans = spans_of(text, options.level)
    sizes = [len(_bytes(text[begin:end])) if options.level == "byte" else 1 for begin, end in spans]
    if max(sizes, default=0) > length:
        raise OptionError(
            f"the text has a character of {max(sizes)} bytes, which is not cut; a row holds {length}. Give "
            f"--level char, or --max-length {max(sizes)} or more."
        )
    pieces, first, held = [], 0, 0
    for number, size in enumerate(sizes):
        if held and held + size > length:  # no character is cut in its bytes
            pieces.append(text[spans[first][0] : spans[number - 1][1]])
            first, held = number, 0
        held += size
    return np.array([*pieces, text[spans[first][0] :]] if spans else pieces, dtype=object)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return _within_limit(file.read(_MAX_BYTES + 1), path)


def _within_limit(raw: bytes, path: Path) -> bytes:
    if len(raw) > _MAX_BYTES:
        raise FileFormatError(f"{path} has more than {_MAX_BYTES:,} bytes, which are not read. Give a part of it.")
    return raw


def _unpacked(path: Path) -> bytes:
    most = _MAX_RATIO * path.stat().st_size + _GRACE
    with gzip.open(path) as file:
        raw = _within_limit(file.read(min(most, _MAX_BYTES) + 1), path)
    if len(raw) > most:
        raise FileFormatError(f"{path} unpacks to more than {_MAX_RATIO} times its size; no text does. Fetch it again.")
    return raw


def _decoded(raw: bytes, path: Path) -> tuple[str, list[str]]:
    if raw.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the first begins like that of UTF-16
        return raw.decode("utf-32", errors="replace"), []
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace"), []
    if b"\0" in raw:
        raise FileFormatError(f"{path} holds zero bytes, so it is no text in UTF-8. Check the file.")
    text = raw.decode("utf-8-sig", errors="replace")
    wrong = text.count("�") - raw.count("�".encode())
    what = f"{wrong:,} places of {path.name} are not UTF-8; each was replaced by the character �"
    return text, [what] if wrong else []


def content_of(sentences: Sequence[str] | NDArray[Any]) -> NDArray[np.uint8]:
    """A digest of each sentence, shape (N, 16), by which it is split."""
    digests = [hashlib.blake2b(_bytes(sentence), digest_size=16).digest() for sentence in sentences]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), 16)


def _bytes(sentence: str) -> bytes:
    return sentence.encode("utf-8", errors="surrogatepass")


def text_schema(train: NDArray[Any], name: str, options: TextOptions, seed: int) -> Schema:
    """What the rows of sentences are: their vocabulary, and how many tokens they have at most.

    Arguments:
        train: The training sentences.
        name: The name of the data.
        options: How sentences become rows.
        seed: The seed of the splits.

    Raises:
        DataError: If the training sentences hold no tokens.
    """
    sentences = [str(sentence) for sentence in train]
    most = options.vocabulary or _MOST[options.level]
    vocabulary = options.known or build_vocabulary(sentences, options.level, most)
    longest = options.max_length or (_LONGEST[options.level] if options.chunks else None)
    if longest is None:
        lengths = [len(vocabulary.tokens(sentence)) for sentence in sentences]
        longest = max(1, min(_LONGEST[options.level], int(np.quantile(lengths, 0.99)))) + 1
    return Schema(
        name=name,
        event_shape=(longest,),
        dtype="str",
        kind="tokens",
        levels=vocabulary.count,
        seed=seed,
        vocabulary=vocabulary,
        chunks=options.chunks,
    )


def text_remarks(schema: Schema, stored: dict[str, Tensor]) -> list[str]:
    """How much of the sentences their rows leave out."""
    unknown, cut = [], []
    for split, rows in stored.items():
        found, tokens = int((rows == UNKNOWN).sum()), int((rows > PAD).sum() - (rows == END).sum())
        unknown += [f"{found:,} of {tokens:,} {split} tokens"] if found else []
        found = int((~(rows == END).any(1)).sum())
        cut += [f"{found:,} of {len(rows):,} {split} rows"] if found else []
    notes = []
    if unknown:
        known = "what training rows hold once, or more than --vocabulary; with --level byte nothing is unknown"
        notes.append(f"not in the vocabulary, and one token, <unk>: {', '.join(unknown)} ({known})")
    if schema.chunks:
        count = sum(len(rows) for rows in stored.values())
        notes.append(
            f"the text was cut into {count:,} rows of {schema.size} tokens, whatever its lines; rows are split by "
            "content, so that neighbours may stand on either side (--chunks, --max-length)"
        )
    elif cut:
        notes.append(
            f"cut after {schema.size} tokens, so that they say how a sentence begins and no end is scored: "
            f"{', '.join(cut)} (--max-length; --chunks cuts a text that runs on into rows and leaves nothing out)"
        )
    return notes
