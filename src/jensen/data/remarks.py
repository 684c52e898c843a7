"""What is said of image files: what they were, what was made of them, and which could not be read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .pixels import ENDINGS, SIDE, Facts, ImageSize
from .tree import Tree

__all__ = ["account", "none_readable", "nothing_in", "remarks", "shown", "tell_skipped"]

_TOLD = 3
_DARK = 4096  # of 65,536: what 12 bits hold


def nothing_in(path: Path, found: Tree) -> str:
    """Why a folder gives no rows: what was looked for, and what was found instead."""
    passed = [f"{number:,} {ending}" for ending, number in found.others.most_common(5)]
    there = [f"other files ({', '.join(passed)})"] if passed else []
    there += [f"{found.runs} run folder{'s' * (found.runs > 1)}, whose pictures are no data"] if found.runs else []
    there += [f"what cannot be opened ({_list(found.skipped)})"] if found.skipped else []
    return (
        f"the folder {path} holds no images: looked there and in its sub-folders for files that end in "
        f"{' '.join(ENDINGS)}, and found {' and '.join(there) or 'no files'}. Give a folder of images, or the path of "
        "a .npy, .npz or idx file."
    )


def none_readable(path: Path, skipped: dict[str, str]) -> str:
    """Why not one image file could be read."""
    if path.is_dir():
        return f"none of the {len(skipped):,} image files in {path} can be read: {_list(skipped)}."
    return f"{path} cannot be read: {next(iter(skipped.values()))}."


def _list(skipped: dict[str, str]) -> str:
    """The first few of what was skipped, each with its reason; names are shown on one line, whatever is in them."""
    told = [f"{shown(name)} ({reason})" for name, reason in list(skipped.items())[:_TOLD]]
    left = len(skipped) - len(told)
    return "; ".join(told) + (f"; and {left:,} more" if left > 0 else "")


def shown(name: str) -> str:
    """A name as it can be shown on one line."""
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def tell_skipped(skipped: dict[str, str], where: str) -> list[str]:
    """A note on the files that could not be read, if there are any, and where all of them are listed."""
    if not skipped:
        return []
    files = f"{len(skipped):,} file{'s' * (len(skipped) > 1)} could not be read and left out"
    return [f"{files}: {_list(skipped)}{where if len(skipped) > _TOLD else ''}"]


def _times(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


def account(facts: list[Facts], shape: tuple[int, ...], size: ImageSize) -> str:
    """What the images were and what they were made into, in one line."""
    sizes = sorted({fact.size for fact in facts}, key=lambda s: (s[0] * s[1], s))
    range_ = f"{len(sizes):,} sizes from {_times(sizes[0])} to {_times(sizes[-1])}"
    to = (shape[1], shape[0])
    how = f"short side to {to[0]}" if to[0] == to[1] else f"scaled to cover {_times(to)}"
    option = "" if isinstance(size, tuple) else "; --image-size"
    if size is None and to[0] < SIDE:
        option = f", as in the middle of all by short side{option}"
    was = f"all {_times(sizes[0])}" if len(sizes) == 1 else range_
    kind = "in colour" if shape[2:] == (3,) else "in grey"
    made = "kept" if sizes == [to] else f"made {_times(to)}"
    parts = [f"{was}, {made} {kind}" + ("" if sizes == [to] else f" ({how}, centre crop{option})")]
    modes = Counter(fact.mode for fact in facts).most_common()
    parts.append("modes " + ", ".join(f"{mode} {number:,}" for mode, number in modes))
    for number, text in (
        (sum(fact.turned for fact in facts), "turned by their EXIF orientation"),
        (sum(fact.enlarged for fact in facts), "enlarged"),
        (sum(fact.transparent for fact in facts), "laid over white where transparent"),
        (sum(fact.several for fact in facts), "of several frames or pages, of which the first was taken"),
    ):
        parts += [f"{number:,} {text}"] if number else []
    return f"{len(facts):,} image{'s' * (len(facts) > 1)}: {'; '.join(parts)}"


def remarks(facts: list[Facts], found: Tree, *, colourless: bool) -> list[str]:
    """What else there is to know about the images, and about what lies beside them."""
    notes = []
    if colourless:
        notes.append("no pixel has a colour, so rows are grey: one value for each pixel")
    peaks = [fact.peak for fact in facts if fact.peak]
    if peaks and max(peaks) < _DARK:
        notes.append(
            f"the {len(peaks):,} images of 16 bits have no value above {max(peaks):,} of 65,535, so they are nearly "
            "black; stretch their values first"
        )
    if found.others:
        endings = ", ".join(f"{ending} {number:,}" for ending, number in found.others.most_common(5))
        notes.append(f"other files were passed over, by their endings: {endings}")
    if found.runs:
        notes.append(f"{found.runs} run folder{'s' * (found.runs > 1)} passed over: their pictures are no data")
    return notes
