"""The errors that jensen raises: one root, so that one ``except`` catches them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "CompositionError",
    "DataError",
    "DeadTermError",
    "FileFormatError",
    "JensenError",
    "MemoryShortError",
    "NonFiniteError",
    "OptionError",
    "RunError",
    "ShapeError",
    "SpecError",
    "SupportError",
    "memory_told",
]


class JensenError(Exception):
    """Root of all errors of this library; the text says what, where, expected against got, and what to do.

    Example:
        >>> try:
        ...     raise SupportError("values must be 0 or 1")
        ... except JensenError as error:
        ...     print(error)
        values must be 0 or 1
    """


class OptionError(JensenError):
    """An option or argument has a value that cannot be used; the command line exits with 2."""


class CompositionError(OptionError):
    """Pieces that do not go together; the text gives the mathematical reason."""


class DataError(JensenError):
    """The data cannot be read or cannot be modelled as they are."""


class SupportError(DataError):
    """Data lie where the chosen likelihood has no mass."""


class ShapeError(JensenError):
    """Two pieces of a model, or a model and its data, disagree about a shape."""


class SpecError(JensenError):
    """A model cannot be written as plain data, or plain data do not describe a model."""


class FileFormatError(JensenError):
    """A file is damaged, of an unknown kind, or not what its name claims."""


class RunError(JensenError):
    """A run folder is missing, incomplete, in use or not what the command needs."""


class NonFiniteError(JensenError):
    """A loss or a gradient became infinite or not a number."""


class DeadTermError(JensenError):
    """A term of the objective never reaches any parameter."""


class MemoryShortError(JensenError):
    """Something does not fit into the memory of the machine or of its accelerator."""


@contextmanager
def memory_told() -> Iterator[None]:
    """Turns what Python, torch's CPU allocator and its GPUs say of too little memory into one error.

    Raises:
        MemoryShortError: Where there was too little.

    Example:
        >>> with memory_told():
        ...     raise MemoryError
        Traceback (most recent call last):
        jensen.errors.MemoryShortError: out of memory. Use smaller networks, a smaller batch size or fewer rows.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _SHORT):
            raise
        raise MemoryShortError("out of memory. Use smaller networks, a smaller batch size or fewer rows.") from error


_SHORT = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
