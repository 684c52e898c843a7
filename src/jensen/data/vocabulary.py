"""Sentences as rows of token numbers, and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..errors import DataError, OptionError

__all__ = ["BEGIN", "END", "PAD", "SPECIAL", "UNKNOWN", "Level", "Vocabulary", "build_vocabulary", "spans_of"]

Level = Literal["word", "char", "byte", "bpe"]
PAD, BEGIN, END, UNKNOWN = range(4)
SPECIAL = ("", "", "", "<unk>")
"""How the four tokens that stand for no piece of text are shown."""

_WORD = re.compile(r"\w+(?:['’\-]\w+)*|[^\w\s]")
_CLOSING, _OPENING, _EITHER = set(".,!?;:%)]}’”…»"), set("([{“‘«$£#"), set("\"'")
_MOST = 1_000_000


class Vocabulary(BaseModel):
    """The tokens of a text: 0 fills up a row, 1 begins a sentence, 2 ends it, 3 is any unknown piece; then the others.

    Arguments:
        level: What a token is: a word or a mark, a character, a byte, or a piece found by byte-pair encoding.
        entries: The words or characters from token 4 on; empty for bytes and pieces.
        pieces: The tokenizer of byte-pair encoding, as the ``tokenizers`` library writes it.
        count: The number of tokens, the special ones included.

    Example:
        >>> words = build_vocabulary(["a cat sat.", "a cat ran.", "a dog sat."], "word", 100)
        >>> rows = words.encode(["a cat sat.", "a dog sat."], 8)
        >>> rows[1].tolist()
        [5, 3, 7, 4, 2, 0, 0, 0]
        >>> words.decode(rows)
        ['a cat sat.', 'a <unk> sat.']
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level
    entries: list[str] = []
    pieces: str = ""
    count: int = Field(ge=len(SPECIAL) + 1, le=_MOST)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {entry: number for number, entry in enumerate(self.entries, len(SPECIAL))}

    @cached_property
    def _tokenizer(self) -> Any:
        return _tokenizers().Tokenizer.from_str(self.pieces)

    def tokens(self, sentence: str) -> list[int]:
        """The tokens of one sentence, without a beginning or an end."""
        if self.level == "byte":
            return [byte + len(SPECIAL) for byte in sentence.encode("utf-8", errors="replace")]
        if self.level == "bpe":
            return [number + len(SPECIAL) for number in self._tokenizer.encode(_clean(sentence)).ids]
        parts = _parts(sentence, self.level)
        return [self._numbers.get(part, UNKNOWN) for part in parts]

    def encode(self, sentences: Iterable[str], length: int) -> NDArray[np.int32]:
        """Sentences as rows, shape (N, length): each ends with its end, unless it is cut, and is then filled up.

        Arguments:
            sentences: The sentences.
            length: The number of tokens in a row; a longer sentence is cut, and its row then says how it begins.
        """
        rows = [[*self.tokens(sentence)[:length], END][:length] for sentence in sentences]
        table = np.full((len(rows), length), PAD, dtype=np.int32)
        for number, row in enumerate(rows):
            table[number, : len(row)] = row
        return table

    def decode(self, rows: NDArray[Any]) -> list[str]:
        """The sentences of rows, up to their end."""
        return [self._sentence([int(token) for token in row]) for row in np.asarray(rows)]

    def _sentence(self, row: list[int]) -> str:
        row = row[: row.index(END)] if END in row else row
        row = [token for token in row if token not in (PAD, BEGIN)]
        first = len(SPECIAL)
        if self.level == "byte":
            pieces = [bytes([t - first]) if t >= first else SPECIAL[t].encode() for t in row]
            return b"".join(pieces).decode("utf-8", errors="replace")
        if self.level == "bpe":
            return str(self._tokenizer.decode([t - first for t in row if t >= first]))
        parts = [self.entries[t - first] if t >= first else SPECIAL[t] for t in row]
        return "".join(parts) if self.level == "char" else _joined(parts)


def build_vocabulary(sentences: Sequence[str], level: Level, most: int) -> Vocabulary:
    """The most frequent tokens of some sentences; equally frequent ones in the order of the alphabet.

    Words and characters that occur only once stay unknown, where others occur more often: new sentences will have such
    words too, and how probable an unknown one is can only be learned where there are some (Good, 1953).

    Arguments:
        sentences: The training sentences.
        level: What a token is.
        most: The largest number of tokens beside the special ones; bytes are always 256.

    Raises:
        DataError: If the sentences hold no token.
        OptionError: If byte-pair encoding is asked for and its library is missing.

    Example:
        >>> build_vocabulary(["to be or not to be"], "word", 2).entries
        ['be', 'to']
    """
    if level == "byte":
        return Vocabulary(level=level, count=256 + len(SPECIAL))
    if level == "bpe":
        return _learn_pieces(sentences, most)
    counts = Counter(part for sentence in sentences for part in _parts(sentence, level))
    if not counts:
        raise DataError(f"the training sentences hold no {level}s: nothing but blanks. Check the file.")
    least = min(2, max(counts.values()))
    known = [(-count, entry) for entry, count in counts.items() if count >= least]
    entries = [entry for _, entry in sorted(known)[:most]]
    return Vocabulary(level=level, entries=entries, count=len(entries) + len(SPECIAL))


def _learn_pieces(sentences: Sequence[str], most: int) -> Vocabulary:
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=max(most, 256),
        show_progress=False,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([_clean(sentence) for sentence in sentences], trainer)
    return Vocabulary(level="bpe", pieces=tokenizer.to_str(), count=tokenizer.get_vocab_size() + len(SPECIAL))


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise OptionError(
            "--level bpe needs the library tokenizers, which is not installed: pip install 'jensen[text]'. The levels "
            "word, char and byte need nothing."
        ) from error
    return tokenizers


def _clean(sentence: str) -> str:
    """A sentence without halves of characters, which no file can hold."""
    return sentence.encode("utf-8", errors="replace").decode("utf-8")


def _parts(sentence: str, level: Level) -> list[str]:
    return _WORD.findall(sentence) if level == "word" else list(sentence)


def spans_of(text: str, level: Level) -> list[tuple[int, int]]:
    """Where each word and mark of a text begins and ends, or each character."""
    if level == "word":
        return [found.span() for found in _WORD.finditer(text)]
    return [(place, place + 1) for place in range(len(text))]


def _joined(parts: list[str]) -> str:
    """Words and marks with the blanks that English puts between them."""
    text, glued, opened = "", True, dict.fromkeys(_EITHER, False)
    for part in parts:
        closing, opening = part in _CLOSING, part in _OPENING
        if part in _EITHER:
            closing = opened[part]
            opening = not closing
            opened[part] = opening
        text += part if glued or closing else f" {part}"
        glued = opening
    return text
