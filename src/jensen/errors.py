"""The errors that jensen raises: one root, so that one ``except`` catches them all."""

from __future__ import annotations

__all__ = [
    "CompositionError",
    "DataError",
    "DeadTermError",
    "FileFormatError",
    "JensenError",
    "NonFiniteError",
    "OptionError",
    "RunError",
    "ShapeError",
    "SpecError",
    "SupportError",
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
