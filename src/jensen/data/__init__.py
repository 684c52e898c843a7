"""Data: anything becomes rows with a schema, splits, and batches that are a function of seed and step."""

from .arrays import SPLITS
from .feed import Rows, batch_index
from .found import Source
from .remarks import tell_skipped
from .schema import Schema
from .sources import open_source
from .splits import Splits, prepare
from .text import TextOptions
from .vocabulary import Vocabulary

__all__ = [
    "SPLITS",
    "Rows",
    "Schema",
    "Source",
    "Splits",
    "TextOptions",
    "Vocabulary",
    "batch_index",
    "open_source",
    "prepare",
    "tell_skipped",
]
