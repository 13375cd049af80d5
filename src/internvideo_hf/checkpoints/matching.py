"""Which released rows a file may be, and how the released test of its data set samples frames and makes pixels."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.recipes.labels import LABEL_SETS, SETS_OF_BOXES, load_labels
from internvideo_hf.recipes.reading import EVALUATIONS
from internvideo_hf.utils.names import lookup

Row = Mapping[str, Any]

# Names that any training run gives its files.
GENERIC_NAMES = ("checkpoint.pth", "pytorch_model.bin")


@dataclass(frozen=True)
class ReleasedTest:
    """How released models of a data set were tested.

    Args:
        data_sets: names of the data sets, usually one.
        processor: settings of the video processor that differ from those of the family's preset.
        views: clips and crops of each video; None if they are not stated, or differ between the models.
        is_stated: whether the original states how it tested.
    """

    data_sets: tuple[str, ...]
    processor: Mapping[str, Any]
    views: tuple[int, int] | None
    is_stated: bool

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the video processor: those of `processor`, and the views."""
        return {**self.processor, **({} if self.views is None else {"released_views": list(self.views)})}


def released_test(rows: Sequence[Row]) -> ReleasedTest | None:
    """Return the test of rows whose frames and pixels are the same, or None if no row states one."""
    tests = [row["evaluation"] for row in rows if row["evaluation"] is not None]
    if not tests:
        return None
    views = [(test["num_clips"], test["num_crops"]) if test.get("num_clips") else None for test in tests]
    return ReleasedTest(
        data_sets=tuple(dict.fromkeys(test["data_set"] for test in tests)),
        processor=_processor(tests[0]),
        views=views[0] if all(view == views[0] for view in views) else None,
        is_stated=not any("num_clips" in test and test["num_clips"] is None for test in tests),
    )


@dataclass(frozen=True)
class FileFacts:
    """What is known about a file before its model is built.

    Args:
        name: of the file.
        family: `model_type` of its model.
        classes: rows of its classification head; None without one.
        head: data set of the head, if known.
        data_set: what the user says that a file without a head was fine-tuned on.
        settings: configuration values that the user states.
        width: returns the hidden size of its video encoder.
    """

    name: str
    family: str
    classes: int | None
    head: str | None
    data_set: str | None
    settings: Mapping[str, Any]
    width: Callable[[], int]


def identify(file: FileFacts, rows: Sequence[Row]) -> tuple[list[Row], ReleasedTest | None]:
    """Find the released rows that a file may be, and how its data set's released test samples frames.

    Args:
        file: what is known about it.
        rows: of its name.

    Returns:
        The rows, and the test, or None if there is none: the family's preset then stands.

    Raises:
        CheckpointError: if the rows were tested in different ways, or the file has a head in spite of a `data_set`.
        ValueError: if no row has the `data_set`.
    """
    if file.data_set is not None:
        if file.classes is not None:
            raise CheckpointError(
                "This file has a classification head: name its data set by --head (head=), and leave out --data-set."
            )
        found = [_row_of_data_set(rows, file.family, file.data_set)]
        return found, released_test(found)
    found, is_consistent = _narrow(rows, file)
    # Whoever states the configuration of another model than the released ones knows that it is none of them.
    if is_consistent or (file.classes is None and not file.settings):
        _check_unambiguous(file.name, found)
    return found, released_test(found) if found and is_consistent else _released_test_of_classes(file)


def processor_fact(processor: Any, test: ReleasedTest | None) -> str:
    """Describe a saved processor in a line of a model card.

    Args:
        processor: of a converted model.
        test: that it repeats, if any.
    """
    videos = getattr(processor, "video_processor", processor)
    frames = f"Processor: {videos.num_frames} frames by {videos.sampler}"
    if test is None:
        return f"{frames}, the family's own"
    names = " and ".join(test.data_sets)
    if not test.is_stated:
        return f"{frames}, the family's own; the original does not state how it tested on {names}"
    views = "" if test.views is None else f", {test.views[0]} x {test.views[1]} views"
    return f"{frames}{views}, as in the released test on {names}"


def _row_of_data_set(rows: Sequence[Row], family: str, data_set: str) -> Row:
    """Return the row of a data set: of a file's name, or of the family for a name that no released file has."""
    candidates = [row for row in rows or released_rows() if row["family"] == family and data_set_names(row)]
    for row in candidates:
        if _slug(data_set) in data_set_names(row):
            return row
    if not candidates:
        raise ValueError(f"data_set: got {data_set!r}, but no released file of {family} belongs to a data set.")
    return lookup({data_set_names(row)[0]: row for row in candidates}, data_set, "data_set")


def data_set_names(row: Row) -> list[str]:
    """Return the names by which a user may tell the data set of a row without classes, the usual one first."""
    test = row["evaluation"]
    if test is None or is_classifier(row):
        return []
    names = [test["data_set"].split()[0], test["data_set"]]
    if "protocol" in test:
        names.append(test["protocol"].rpartition("/")[2].removesuffix("_finetuned"))
    return [_slug(name) for name in names]


def is_classifier(row: Row) -> bool:
    """Return whether the file of a row has a classification head."""
    return row["labels"] is not None or "num_clips" in (row["evaluation"] or {})


def _narrow(rows: Sequence[Row], file: FileFacts) -> tuple[list[Row], bool]:
    """Return the rows that a file does not contradict, and whether there are any after each check.

    A check that leaves no row is passed over, so that a file with the name of a released one has rows.
    """
    checks: list[Callable[[Row], bool]] = [
        lambda row: is_classifier(row) == (file.classes is not None),
        lambda row: _has_classes(row, file.classes, file.head),
    ]
    if len(rows) > 1:  # a name of its own is believed
        width = file.width()
        checks += [
            lambda row: (row["evaluation"] or {}).get("hidden_size", width) == width,
            lambda row: _agree(row["config"], file.settings),
        ]
    left, is_consistent = list(rows), True
    for check in checks:
        kept = [row for row in left if check(row)]
        left, is_consistent = kept or left, is_consistent and (bool(kept) or not rows)
    return left, is_consistent


def _has_classes(row: Row, classes: int | None, head: str | None) -> bool:
    labels = row["labels"]
    if head is None:
        return labels is None or len(load_labels(labels)) == classes
    return bool(labels == head or (labels == "k710" and classes == 710))


def _agree(config: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    return all(
        _agree(value, settings[name]) if isinstance(value, Mapping) else settings[name] == value
        for name, value in config.items()
        if name in settings
    )


def _check_unambiguous(file_name: str, rows: Sequence[Row]) -> None:
    tests = [_processor(row["evaluation"]) for row in rows if row["evaluation"] is not None]
    if any(test != tests[0] for test in tests):
        option = "--head (head=)" if any(map(is_classifier, rows)) else "--data-set (data_set=)"
        names = dict.fromkeys(row["labels"] or data_set_names(row)[0] for row in rows)
        raise CheckpointError(
            f"{file_name} is the name of {len(rows)} released files, which differ in the frames and pixels of their "
            f"tests. Name the data set of yours by {option}: {', '.join(names)}. If it is none of them, rename it."
        )


def _released_test_of_classes(file: FileFacts) -> ReleasedTest | None:
    """Return how the family's released classifiers of these classes were tested, if they all were in one way."""
    if file.classes is None:
        return None
    # A head of boxes has told its set by now.
    sets = [name for name in LABEL_SETS if name not in SETS_OF_BOXES and len(load_labels(name)) == file.classes]
    fitting = [file.head] if file.head else sets
    rows = [row for row in released_rows() if row["family"] == file.family and row["labels"] in fitting]
    if any(_processor(row["evaluation"]) != _processor(rows[0]["evaluation"]) for row in rows):
        return None
    return released_test(rows)


def _processor(test: Mapping[str, Any]) -> dict[str, Any]:
    if "protocol" in test:
        return dict(EVALUATIONS.read(test["protocol"])["processor"])
    return dict(test.get("processor", {}))


def _slug(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
