"""Answers to videos as a data set: parquet that `datasets.load_dataset` reads with its features, and a card."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from internvideo_hf.data.records import require_datasets
from internvideo_hf.inference.answering import model_revision
from internvideo_hf.utils.files import atomic_directory, check_output
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.names import printable
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path

SPLIT = "predictions"
"""Name of the only split."""
_FILE = f"data/{SPLIT}-00000-of-00001.parquet"
_TAGS = ("internvideo_hf", "video", SPLIT)
_CHUNK = 20_000  # rows that are Python objects at a time


@dataclass(frozen=True)
class AnswerSet:
    """The answers of one model, to be written as a data set.

    Args:
        folder: to write, on a disk.
        model: folder, or name on the Hub.
        classes: names of the classes that answers may be; None for texts.
        settings: of the command, as JSON, for the card.
        numbers: what answers have besides label and score, such as "similarity".
    """

    folder: Path
    model: str
    classes: Sequence[str] | None
    settings: Mapping[str, Any]
    numbers: tuple[str, ...] = ()

    def write(self, answers: Iterable[Mapping[str, Any]]) -> int:
        """Write the data set atomically, in place of an earlier one.

        Args:
            answers: of each video `video` and `results`, the best first, or `error`; read once, and not held.

        Returns:
            Number of rows.

        Raises:
            FileExistsError: if the folder holds something else.
            LockedError: if another process writes it.
            OSError: if it cannot be written.
        """
        datasets = require_datasets()
        features = datasets.Features(self._features(datasets))
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(self.folder):
            check_answer_folder(self.folder)
            with atomic_directory(self.folder) as folder:
                (folder / _FILE).parent.mkdir()
                rows, failed, size = _write_rows(folder / _FILE, map(self._row, answers), features.arrow_schema)
                self._write_card(folder, features, rows, failed, size)
        return rows

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(dict.fromkeys(self.classes or ()))}

    def _features(self, datasets: Any) -> dict[str, Any]:
        text, number = datasets.Value("string"), datasets.Value("float64")
        if self.classes is None:
            return {"video": text, "caption": text, "error": text}
        label = datasets.ClassLabel(names=list(self._numbers))
        answer = {"label": label, "score": number, **dict.fromkeys(self.numbers, number)}
        return {"video": text, "label": label, "score": number, "answers": datasets.List(answer), "error": text}

    def _row(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        results, row = answer.get("results", []), {"video": answer["video"], "error": answer.get("error")}
        if self.classes is None:
            return {**row, "caption": next((result["generated_text"] for result in results), None)}
        found = [
            {"label": self._numbers[one["label"]], **{name: one.get(name) for name in ("score", *self.numbers)}}
            for one in results
        ]
        best = found[0] if found else {"label": None, "score": None}
        return {**row, "label": best["label"], "score": best["score"], "answers": found}

    def _write_card(self, folder: Path, features: Any, rows: int, failed: int, size: int) -> None:
        from datasets.info import DatasetInfo, DatasetInfosDict
        from datasets.splits import SplitDict, SplitInfo

        splits = SplitDict()
        splits.add(SplitInfo(SPLIT, num_bytes=size, num_examples=rows))
        on_disk = (folder / _FILE).stat().st_size
        info = DatasetInfo(features=features, splits=splits, dataset_size=size, download_size=on_disk)
        head = DatasetCardData(
            license="unknown",
            tags=list(_TAGS),
            configs=[{"config_name": "default", "data_files": [{"split": SPLIT, "path": f"data/{SPLIT}-*"}]}],
        )
        DatasetInfosDict({"default": info}).to_dataset_card_data(head)
        name = Path(self.model).resolve().name if Path(self.model).is_dir() else self.model
        facts = {
            "model": f"`{_code(name)}`",
            "revision of the model": f"`{model_revision(self.model)}`",
            "rows": f"{rows:,}, of which {failed:,} have an error in place of an answer",
            "date": datetime.now(UTC).date().isoformat(),
            "versions": ", ".join(f"{name} {version(name)}" for name in ("internvideo_hf", "transformers", "torch")),
        }
        lines = ["---", head.to_yaml().strip(), "---", "", "# Answers of a model to videos", ""]
        lines += ["| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items()), ""]
        lines += ["A row is a video. These are the answers of a model: nobody has checked them.", ""]
        lines += ["## Settings", "", "```json", json.dumps(self.settings, indent=1, ensure_ascii=False), "```", ""]
        lines += [
            "## License",
            "",
            "Unknown: those of the videos and of the model count. Add the one that you give.",
            "",
        ]
        (folder / "README.md").write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")


def check_answer_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written, or that holds something else than answers, before the work begins.

    Args:
        folder: of a data set.

    Raises:
        ValueError, OSError: if it is refused.
        ImportError: if `datasets` is not installed.
    """
    require_datasets()
    if isinstance(as_path(folder), StoragePath):
        raise ValueError(f"{folder} is in a store, and a data set is written to a disk. Copy it there afterwards.")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Give the name of a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not _holds_answers(folder):
        raise FileExistsError(f"{folder} holds something else than answers. Choose another folder.")
    check_output(folder)


def _holds_answers(folder: Path) -> bool:
    try:
        tags = DatasetCard.load(folder / "README.md").data.tags
    except Exception:  # of a card of others, which may be anything
        return False
    return isinstance(tags, list) and set(_TAGS) <= set(map(str, tags)) and (folder / _FILE).is_file()


def read_answers(lines: AnyPath) -> Iterator[dict[str, Any]]:
    """Yield the answers of a file of JSON lines.

    Args:
        lines: from `answering.write_lines`, also in a store.
    """
    with lines.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _write_rows(path: Path, rows: Iterator[dict[str, Any]], schema: Any) -> tuple[int, int, int]:
    """Write rows as parquet; return their number, how many failed, and their size in memory in bytes."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    count = failed = size = 0
    with ParquetWriter(path, schema) as writer:
        while chunk := list(islice(rows, _CHUNK)):
            table = pyarrow.Table.from_pylist(chunk, schema=schema)
            writer.write_table(table)
            count, size = count + len(chunk), size + table.nbytes
            failed += sum(row["error"] is not None for row in chunk)
    return count, failed, size


def _code(text: str) -> str:
    return printable(text).replace("`", "'").replace("|", "/")
