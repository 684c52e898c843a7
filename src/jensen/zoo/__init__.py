"""The models that ``jensen fit --model NAME`` takes: a few lines each, composed of the library's pieces."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import OptionError

if TYPE_CHECKING:
    from .entry import Built, Context
    from .options import FitOptions

__all__ = ["MODELS", "Entry", "build", "entry_of"]


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Arguments:
        name: Its name on the command line.
        module: Where it is built.
        options: The class of its options, in ``zoo.options``.
        summary: What it is, in one line.
        paper: Where it comes from.
        data: The data it suits.
        kinds: The kinds of rows, as a schema names them, that it can be built for.
    """

    name: str
    module: str
    options: str
    summary: str
    paper: str
    data: str
    kinds: tuple[str, ...] = ("binary", "binned", "continuous")

    def options_class(self) -> type[FitOptions]:
        """The class of its options; it needs no torch."""
        found: type[FitOptions] = getattr(importlib.import_module(f"{__name__}.options"), self.options)
        return found

    def build(self, context: Context) -> Built:
        """The model for some data.

        Raises:
            OptionError: If it cannot be built for rows of that kind.
        """
        kind = context.schema.kind
        if kind not in self.kinds:
            able = [entry.name for entry in MODELS.values() if kind in entry.kinds]
            others = f"; {', '.join(able[1:])} can as well" if able[1:] else ""
            raise OptionError(
                f"{self.name} cannot model {context.schema.name}, whose rows are {kind}. Fit it with --model {able[0]}"
                f"{others}."
            )
        built: Built = importlib.import_module(f"{__name__}.{self.module}").build(context)
        return built


_ANY = "images, tables, zeros and ones"
_TEXT = "sentences"
_IMAGES = "images"
MODELS: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "vae",
            "vae",
            "VAEOptions",
            "the variational autoencoder, every piece to choose",
            "Kingma, Welling 2013",
            _ANY,
        ),
        Entry(
            "autoencoder",
            "autoencoder",
            "AutoencoderOptions",
            "codes that reconstruct, without a distribution",
            "Hinton, Salakhutdinov 2006",
            _ANY,
        ),
        Entry("iwae", "iwae", "IWAEOptions", "trained by the importance-weighted bound", "Burda et al. 2016", _ANY),
        Entry("beta-vae", "vae", "BetaVAEOptions", "a heavier KL", "Higgins et al. 2017", _ANY),
        Entry(
            "beta-tcvae",
            "beta_tcvae",
            "BetaTCVAEOptions",
            "a heavier total correlation, for independent latents",
            "Chen et al. 2018",
            _ANY,
        ),
        Entry(
            "vampprior-vae",
            "vampprior",
            "VampPriorOptions",
            "the prior is a mixture of posteriors of learned rows",
            "Tomczak, Welling 2018",
            _ANY,
        ),
        Entry("flow-vae", "flows", "FlowVAEOptions", "a flow as posterior", "Kingma et al. 2016", _ANY),
        Entry("flow-prior-vae", "flows", "FlowPriorOptions", "a flow as prior", "Chen et al. 2017", _ANY),
        Entry(
            "hyperspherical-vae",
            "hyperspherical",
            "HypersphericalOptions",
            "latents on a sphere",
            "Davidson et al. 2018; De Cao, Aziz 2020",
            _ANY,
        ),
        Entry(
            "conditional-vae",
            "conditional",
            "ConditionalVAEOptions",
            "rows given their label",
            "Sohn et al. 2015",
            "images and rows with labels",
        ),
        Entry(
            "semi-supervised-vae",
            "semi_supervised",
            "SemiSupervisedOptions",
            "a class beside the latents, named by a few labels",
            "Kingma et al. 2014",
            "images and rows with labels",
        ),
        Entry(
            "ladder-vae",
            "ladder",
            "LadderOptions",
            "many groups of latents, one above the other",
            "Sønderby et al. 2016; Child 2021",
            _ANY,
        ),
        Entry(
            "ibp-vae",
            "ibp",
            "IBPOptions",
            "features that are on or off, as many as the rows ask for",
            "Singh, Ling, Doshi-Velez 2017",
            _ANY,
        ),
        Entry(
            "bayesian-decoder",
            "bayesian_decoder",
            "BayesianDecoderOptions",
            "a distribution over the decoder's weights, for few rows",
            "Kingma, Welling 2013, appendix F",
            _ANY,
        ),
        Entry(
            "stick-breaking-vae",
            "stick_breaking",
            "StickBreakingOptions",
            "codes that are weights of a Dirichlet process, most of them near zero",
            "Nalisnick, Smyth 2017",
            _ANY,
        ),
        Entry(
            "wae-mmd",
            "wae",
            "WAEOptions",
            "the aggregate posterior held to the prior by a discrepancy",
            "Tolstikhin et al. 2018",
            _ANY,
        ),
        Entry(
            "sentence-vae",
            "sentence_vae",
            "SentenceVAEOptions",
            "sentences from a continuous space, by an LSTM that writes them word by word",
            "Bowman et al. 2016",
            _TEXT,
            ("tokens",),
        ),
        Entry(
            "language-model",
            "sentence_vae",
            "LanguageModelOptions",
            "the decoder of sentence-vae without latents: an exact log p(x) to compare it with",
            "Mikolov et al. 2010",
            _TEXT,
            ("tokens",),
        ),
        Entry(
            "pixelcnn",
            "pixelcnn",
            "PixelCNNOptions",
            "each pixel from those before it: no latents, an exact log p(x)",
            "van den Oord et al. 2016",
            _IMAGES,
        ),
        Entry(
            "pixel-vae",
            "pixelcnn",
            "PixelVAEOptions",
            "a decoder that predicts pixels one by one, and may do without z",
            "Gulrajani et al. 2017",
            _IMAGES,
        ),
        Entry(
            "vq-vae",
            "vq_vae",
            "VQVAEOptions",
            "discrete codes from a codebook, with a learned prior over them",
            "van den Oord et al. 2017",
            _ANY,
        ),
    )
}


def entry_of(name: str) -> Entry:
    """The entry of a name.

    Raises:
        OptionError: If there is no such model.

    Example:
        >>> entry_of("iwae").paper
        'Burda et al. 2016'
    """
    if name not in MODELS:
        raise OptionError(f"--model cannot be {name!r}; choose one of {', '.join(MODELS)}.")
    return MODELS[name]


def usual(data: Any) -> str:
    """The name of the model that is fitted to data where none is named: the first that is for such rows.

    Example:
        >>> usual("digits"), usual("sentences.txt")
        ('vae', 'sentence-vae')
    """
    from ..data.sources import holds_text

    text = holds_text(data)
    return next(name for name, entry in MODELS.items() if ("tokens" in entry.kinds) == text)


def build(name: str, schema: Any, rows: int, *, classes: int = 0, **options: Any) -> Built:
    """A model of the zoo for data of a schema, to train by hand.

    Arguments:
        name: Its name.
        schema: What a row is, a :class:`jensen.data.Schema`.
        rows: The number of training rows.
        classes: The number of different labels of the rows; 0 where they have none.
        options: Options of that model.

    Raises:
        OptionError: If there is no such model, or an option does not suit the data.

    Example:
        >>> from jensen.data import Schema
        >>> coins = Schema(name="coins", event_shape=(8,), dtype="uint8", kind="binary", levels=2)
        >>> built = build("iwae", coins, rows=100, k=5, hidden=(16,))
        >>> built.objective(1000)[0].k
        5
    """
    from .entry import Context

    entry = entry_of(name)
    return entry.build(Context(schema, rows, entry.options_class()(model=name, **options), classes=classes))
