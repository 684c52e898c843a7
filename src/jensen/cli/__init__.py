"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise

import cyclopts
from cyclopts import CycloptsError
from cyclopts.config import Env

from ..errors import JensenError, OptionError, memory_told
from ..version import __version__
from ..zoo import MODELS, usual

__all__ = ["application", "main"]

_FOLDERS = ("--out", "--resume")
_BESIDE_RESUME = ("--resume", "--stop-after", "--profile", "--json")
_COMMANDS = {
    "evaluate": ("measure:evaluate", "Score held-out rows of a run: bounds on log p(x), with their errors."),
    "check": ("check:check", "Say on one page whether a run's model is any good, and what limits it."),
    "fit-prior": ("prior:fit_prior", "Fit a new prior to a run's codes, which makes its samples better."),
    "classify": (
        "classify:classify",
        "Classify rows from few labels, starting with a run's encoder.",
    ),
    "compare": ("measure:compare", "Compare the test bounds of two runs, paired over the same rows."),
    "sample": ("use:sample", "Draw new rows from a run's model."),
    "embed": ("use:embed", "Write the posterior mean of each row."),
    "reconstruct": ("use:reconstruct", "Write what the model makes of each row."),
    "interpolate": ("interpolate:interpolate", "Show what lies between two rows, by their codes."),
    "traverse": ("walks:traverse", "Show what becomes of a row when its latents are moved, one at a time."),
    "map": ("walks:latent_map", "Show the space of two latents: where rows lie in it, and what lies where."),
    "models": ("models:models", "List the models that can be fitted."),
    "doctor": ("doctor:doctor", "Show versions and hardware, and run a short self-test."),
}


def application(arguments: Sequence[str]) -> cyclopts.App:
    """The command line; ``fit`` has the options of the model that the arguments name."""
    app = cyclopts.App(
        name="jensen",
        help="Variational autoencoders from one command: fitted, measured, saved, reloaded, resumed.",
        version=__version__,
        help_format="plaintext",
    )
    summary = "Fit a model to data: a name, a folder of images, a .txt, .npy, .npz or idx file."
    if arguments and arguments[0] == "fit":
        from .fit import command

        app.command(command(_model_of(arguments)), name="fit", config=_environment("fit"))
    else:
        app.command("jensen.cli.fit:command", name="fit", help=summary)
    for name, (target, text) in _COMMANDS.items():
        app.command(f"jensen.cli.{target}", name=name, help=text, config=_environment(name))
    return app


class _Environment(Env):
    """Variables that set options: none by its --no-NAME, and beside --resume only those that may stand there."""

    def __call__(self, app: cyclopts.App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
        for key in sorted(os.environ):
            if key.startswith(f"{self.prefix}NO_"):
                positive = key.replace(f"{self.prefix}NO_", self.prefix, 1)
                raise OptionError(f"{key} is no variable of jensen; set {positive}=false instead.")
        super().__call__(app, commands, arguments)
        if any(argument.name == "--resume" and argument.tokens for argument in arguments):
            for argument in arguments:
                if argument.name not in _BESIDE_RESUME:
                    argument.tokens[:] = [token for token in argument.tokens if token.source != self.source]


def _environment(verb: str) -> Env:
    """The variables that set the options of a verb; a shell takes no hyphen in their names."""
    return _Environment(f"JENSEN_{verb.upper().replace('-', '_')}_", command=False)


def _model_of(arguments: Sequence[str]) -> str:
    """The value of --model; the last one counts, then the environment, then what is usual for the data."""
    found = os.environ.get("JENSEN_FIT_MODEL")
    for before, argument in pairwise(arguments):
        if before == "--model":
            found = argument
        elif argument.startswith("--model="):
            found = argument.partition("=")[2]
    if found is not None:
        return found
    # Which argument names the data is not known before the options are; nothing but data is the name of a text.
    names = [now for before, now in pairwise(arguments) if not (now.startswith("-") or before in _FOLDERS)]
    first = next(iter(MODELS))
    return next((model for model in map(usual, names) if model != first), first)


def main() -> None:
    """Runs the command line and exits: 0; 1 failure; 2 misuse; 130 or 75 after a resumable stop."""
    # What torch's own modules say to one another is nothing that a user could change.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
    try:
        with memory_told():
            application(sys.argv[1:])(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(f"{' '.join(str(error).split())} See: jensen --help", 2)
    except JensenError as error:
        _fail(str(error), 2 if isinstance(error, OptionError) else 1)
    except KeyboardInterrupt:
        _fail("interrupted.", 130)
    except BrokenPipeError:
        # Whoever read our output has closed it; point it elsewhere so that closing it at exit stays quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(
            f"{error.strerror or error}: {str(error.filename or '')[:200]}. Check the name, the rights and the space.",
            1,
        )
    except Exception as error:  # the one place where an unforeseen error meets the user
        if os.environ.get("JENSEN_DEBUG"):
            raise
        text = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {text[0] if text else 'no message'}"
        _fail(f"unforeseen error, {what}. Set JENSEN_DEBUG=1 to see where, and please report it.", 1)


def _fail(message: str, code: int) -> None:
    print(f"jensen: {message}", file=sys.stderr)  # noqa: T201 (the command line's own voice)
    sys.exit(code)
