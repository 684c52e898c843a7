"""What a model of the zoo is: options in, a model and an objective out, each choice with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..data import Schema
from ..errors import OptionError
from ..roles import Objective
from .options import FitOptions

__all__ = ["Built", "Choice", "Context"]


@dataclass(frozen=True)
class Choice:
    """One choice: what it is, its value, why, and the option that changes it."""

    what: str
    value: str
    reason: str
    option: str


@dataclass(frozen=True)
class Context:
    """What a model is chosen from.

    Arguments:
        schema: What a row is.
        rows: The number of training rows.
        options: What the user wants, of the class that the model declares.
        choices: What was chosen so far; builders add to it.
        classes: The number of different labels of the rows; 0 where they have none.
    """

    schema: Schema
    rows: int
    options: Any
    choices: list[Choice] = field(default_factory=list)
    classes: int = 0

    def labelled(self, why: str) -> int:
        """The number of labels, for a model that needs them.

        Raises:
            OptionError: If the data have none, or all the same.
        """
        if self.classes < 2:
            raise OptionError(
                f"{self.options.model} needs data with labels, {why}; {self.schema.name} has "
                f"{'none' if not self.classes else 'only one'}. Images in sub-folders have their names as labels."
            )
        return self.classes

    def chose(self, what: str, value: str, reason: str, option: str) -> None:
        """Writes down a choice."""
        self.choices.append(Choice(what, value, reason, option))

    def asked(self, name: str) -> bool:
        """Whether the user gave an option."""
        options: FitOptions = self.options
        return name in options.model_fields_set


@dataclass(frozen=True)
class Built:
    """A model, and its objective once the number of steps is known.

    Arguments:
        model: The model.
        objective: From the number of steps to the objective and its description.
        rate: A learning rate that suits the model better than the one for the number of rows.
        compiles: Whether a compiler can make something of it.
        epochs: How often it suits the model to see each row, where that is not for the number of rows to say.
        large: Whether its networks have work enough for bf16 to pay, where that is not for their number of parameters
            to say.
    """

    model: Any
    objective: Callable[[int], tuple[Objective, str]]
    rate: float | None = None
    compiles: bool = True
    epochs: float | None = None
    large: bool | None = None
