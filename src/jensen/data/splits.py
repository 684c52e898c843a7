"""Splits by content: equal rows never stand on two sides, and the order of a file does not matter."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..noise import mix, row_keys
from ..roles import Given
from .feed import Rows
from .found import Source
from .labels import LabelUse, condition_on, repeated
from .remarks import tell_skipped
from .schema import Array, Binarisation, Schema, infer
from .text import TextOptions, chunks_of, content_of, is_sentences, text_remarks, text_schema
from .values import check_values, check_varied

__all__ = ["Splits", "prepare"]


@dataclass(frozen=True)
class Splits:
    """Rows by split under one schema.

    Arguments:
        schema: What a row is.
        stored: The rows of ``train``, ``valid`` and ``test`` as they are stored.
        rule: How the split was made, in words.
        reference: The name or path that opens the data again; None for data from memory.
        key: Which array of the file was taken.
        notes: What was noticed.
        labels: The number of the label of each row, by split; empty where there are no labels.
        label_names: The names of the labels.
        files: The file of each row, by split; empty where rows are not image files.
        skipped: The image files that could not be read, each with the reason.
        use: What the labels are for; None where they play no part.
    """

    schema: Schema
    stored: dict[str, Tensor]
    rule: str
    reference: str | None
    key: str | None
    notes: list[str] = field(default_factory=list)
    labels: dict[str, Tensor] = field(default_factory=dict)
    label_names: list[str] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    use: LabelUse | None = None

    @property
    def protocol(self) -> str:
        """How data, splits and binarisation were made; numbers compare only under equal protocols."""
        return f"{self.schema.protocol}; {self.rule}" + ("; given the label" if self.conditioned else "")

    @property
    def conditioned(self) -> bool:
        """Whether bounds are on log p(x) given the label."""
        return self.use is not None and self.use.condition

    @property
    def train(self) -> Rows:
        """The training rows as they are fed."""
        values, given = self.stored["train"], self.given("train")
        if self.use is not None and not self.use.condition:
            values, given = repeated(values, self.labels["train"], self.use)
        return Rows(values, self.schema.encode, log_jacobian=self.schema.log_jacobian, given=given)

    def given(self, split: str) -> Given | None:
        """What is known beside the rows of a split when they are scored; None where nothing is."""
        return condition_on(self.labels[split], len(self.label_names)) if self.conditioned else None

    def frozen(self, split: str) -> Tensor:
        """The rows of a split as the model sees them in evaluation."""
        return self.schema.freeze(self.stored[split])

    def user_rows(self, split: str) -> Array:
        """The rows of a split in the user's units, before any binarisation."""
        plain = self.schema.model_copy(update={"binarisation": "none"})
        return plain.user_values(plain.grey(self.stored[split]), exact=True)

    def fingerprint(self, split: str) -> str:
        """A SHA-256 of the rows of a split, order included."""
        values = self.stored[split]
        digest = hashlib.sha256(f"{values.dtype}{tuple(values.shape)}".encode())
        digest.update(values.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def label_fingerprint(self, split: str) -> str:
        """A SHA-256 of the labels of a split and of their names, order included."""
        digest = hashlib.sha256(json.dumps(self.label_names).encode())
        digest.update(self.labels[split].numpy().tobytes())
        return digest.hexdigest()


def prepare(
    source: Source,
    *,
    binarisation: Binarisation | None = None,
    seed: int = 0,
    density: bool = False,
    text: TextOptions | None = None,
) -> Splits:
    """Splits rows, finds their schema and stores them in the smallest type that holds them.

    Data sets with a split of their own keep it. Where validation rows are missing they are taken from the training
    file, and where there is one array it is split 80/10/10, both by a seeded hash of the content of each row.

    Arguments:
        source: The data as opened.
        binarisation: How grey values become zeros and ones; by default what the named data set is known for.
        seed: The seed of splits and frozen binarisation.
        density: Take values as continuous even where they lie on a grid, for a model that is a density.
        text: How sentences become rows.

    Raises:
        DataError: If there are too few different rows, or the data cannot be modelled as they are.
    """
    if all(is_sentences(rows) for rows in source.arrays.values()):
        return _prepare_text(source, binarisation, seed, text or TextOptions())
    values = _all_values(source)
    check_varied(values, source.name)
    places, rule = _split(source, seed)
    arrays = {split: source.arrays[origin][rows] for split, (origin, rows) in places.items()}
    chosen = source.binarisation if binarisation is None else binarisation
    schema = infer(
        values,
        arrays["train"],
        name=source.name,
        binarisation=chosen,
        seed=seed,
        density=density,
        pixels=source.pixels,
    )
    stored = {split: schema.store(rows) for split, rows in arrays.items()}
    listed = tell_skipped(source.skipped, "; files.json in the folder of the run lists all")
    notes = [*source.notes, *listed, *_remarks(schema, stored), *_shared_rows(stored)]
    splits = Splits(schema, stored, rule, source.reference, source.key, notes, skipped=source.skipped)
    return _with_labels_and_files(splits, source, places)


def _prepare_text(source: Source, binarisation: Binarisation | None, seed: int, text: TextOptions) -> Splits:
    """Sentences are split by their content, and the vocabulary is made of those for training."""
    if binarisation not in (None, "none"):
        raise DataError(f"--binarisation {binarisation} needs grey levels; {source.name} holds sentences.")
    if text.chunks:
        source = replace(source, arrays={split: chunks_of(rows, text) for split, rows in source.arrays.items()})
    content = {split: content_of(rows) for split, rows in source.arrays.items()}
    places, rule = _split(replace(source, arrays=content), seed)
    sentences = {split: source.arrays[origin][rows] for split, (origin, rows) in places.items()}
    schema = text_schema(sentences["train"], source.name, text, seed)
    stored = {split: schema.store(rows) for split, rows in sentences.items()}
    notes = [*source.notes, *text_remarks(schema, stored), *_shared_rows(stored)]
    return Splits(schema, stored, rule, source.reference, source.key, notes)


def _with_labels_and_files(splits: Splits, source: Source, places: _Places) -> Splits:
    labels, files = {}, {}
    for split, (origin, rows) in places.items():
        if source.labels is not None:
            labels[split] = torch.from_numpy(source.labels[origin][rows].astype(np.int64))
        if source.files:
            files[split] = [source.files[origin][i] for i in rows]
    return replace(splits, labels=labels, label_names=source.label_names, files=files)


def _all_values(source: Source) -> Array:
    """All rows, once each array is known to hold rows of numbers of one shape."""
    for split, rows in source.arrays.items():
        check_values(rows, source.name if split == "all" else f"{source.name} ({split})")
    return source.rows


def _remarks(schema: Schema, stored: dict[str, Tensor]) -> list[str]:
    """What makes the numbers of these data hard to read."""
    notes = []
    train = stored["train"].flatten(1)
    if schema.kind != "continuous" and _like_labels(schema, train):
        what = "a single whole number" if schema.size == 1 else "a single one among zeros"
        notes.append(f"each row is {what}: these look like labels, not data; check which file or array was given")
    if schema.kind == "continuous":
        common = [int((column == column.mode().values).sum()) for column in train.T[:4096]]
        worst = max(range(len(common)), key=common.__getitem__)
        if common[worst] > max(1, 0.1 * len(train)):
            notes.append(
                f"one value makes up {100 * common[worst] / len(train):.0f}% of position {worst}: a density on such a "
                "value has no bound, so compare log p(x) with care"
            )
    different = len(set(row_keys(train)))
    if different < 0.5 * len(train):
        notes.append(
            f"only {different:,} of {len(train):,} training rows differ; where the split is by content, test rows are "
            "contents never trained on"
        )
    return notes


# For each split, which array of the source its rows stand in, and which of them they are.
_Places = dict[str, tuple[str, Array]]


def _like_labels(schema: Schema, train: Tensor) -> bool:
    """Whether rows are class numbers, as such or one-hot."""
    if schema.size == 1:
        return schema.levels <= train.shape[0]
    return schema.kind == "binary" and schema.size > 2 and bool((train.sum(1) == 1).all())


def _split(source: Source, seed: int) -> tuple[_Places, str]:
    own: _Places = {split: (split, np.arange(len(rows))) for split, rows in source.arrays.items()}
    if set(own) == {"train", "valid", "test"}:
        return own, "the data's own splits"
    if "all" in own:
        rows = source.arrays["all"]
        order, groups = _by_hash(rows, seed)
        held = max(1, round(0.1 * len(rows)))
        cut, rest = _take(order, groups, [held, held], source.name)
        parts = {"test": cut[0], "valid": cut[1], "train": rest}
        return {s: ("all", np.sort(i)) for s, i in parts.items()}, f"80/10/10 by content hash, seed {seed}"
    rows = source.arrays["train"]
    count = source.valid_rows or max(1, len(rows) // 10)
    order, groups = _by_hash(rows, seed)
    cut, rest = _take(order, groups, [min(count, len(rows) // 5)], source.name)
    own |= {"train": ("train", np.sort(rest)), "valid": ("train", np.sort(cut[0]))}
    rule = (
        f"the data's own test rows, {len(cut[0])} validation rows from the training file by content hash, seed {seed}"
    )
    return own, rule


def _by_hash(rows: Array, seed: int) -> tuple[Array, Array]:
    """Row numbers in the order of a seeded hash of their content, and that hash; equal rows stand together."""
    keys = np.array([mix(seed, "split", key) for key in row_keys(torch.from_numpy(_plain(rows)))], dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    return order, keys[order]


def _plain(rows: Array) -> Array:
    """Rows in a type that torch knows, so that their bytes can be hashed."""
    native = np.ascontiguousarray(rows).astype(rows.dtype.newbyteorder("="), copy=False)
    unsigned = {"uint16": np.int16, "uint32": np.int32, "uint64": np.int64, "float128": np.float64}
    name = native.dtype.name
    if native.dtype.kind == "f":
        native = native + native.dtype.type(0)  # −0 becomes 0, which equals it
    return native.astype(unsigned[name]) if name in unsigned else native.copy()


def _take(order: Array, groups: Array, counts: list[int], name: str) -> tuple[list[Array], Array]:
    """Cuts parts of about the given sizes from the front, never between equal rows."""
    edges = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])  # where a new content begins
    if len(edges) < len(counts) + 1:
        raise DataError(
            f"{name} has {len(order)} rows of which {len(edges)} differ; holding some out for validation and test "
            f"needs at least {len(counts) + 1} different rows. Give more rows, or train by hand with jensen.train.fit."
        )
    parts, start = [], 0
    for place, count in enumerate(counts):
        first = int(np.searchsorted(edges, start, side="right"))
        last = len(edges) - (len(counts) - place)
        wanted = int(np.searchsorted(edges, start + count))
        end = int(edges[min(max(first, wanted), last)])
        parts.append(order[start:end])
        start = end
    return parts, order[start:]


def _shared_rows(stored: dict[str, Tensor]) -> list[str]:
    keys = {split: set(row_keys(rows)) for split, rows in stored.items()}
    notes = []
    for a, b in (("train", "test"), ("train", "valid"), ("valid", "test")):
        shared = len(keys[a] & keys[b])
        if shared:
            notes.append(f"{shared} different rows stand in both {a} and {b}")
    return notes
