"""The data card: what came in and out of each stage, why the rest failed, and histograms."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.curation.stages import Row, StageReport, Table, read_lines
from internvideo_hf.utils.files import atomic_write, atomic_write_text
from internvideo_hf.utils.names import printable

_CAUSES = 10  # the most frequent causes of failures that the card names
_BINS = 40


def _words(row: Row) -> int | None:
    return len(row["caption"].split()) if row["caption"] else None


# Name of a file -> its title, unit, and what it counts of a row, None where a row has none.
_HISTOGRAMS: dict[str, tuple[str, str, Callable[[Row], float | None]]] = {
    "clip_seconds": ("Length of clips", "seconds", lambda row: row["end"] - row["start"]),
    "caption_words": ("Length of captions", "words", _words),
    "similarity": ("Similarity of clip and caption", "cosine", lambda row: row.get("similarity")),
    "aesthetic_score": ("Aesthetic score", "score", lambda row: row.get("aesthetic_score")),
}


def write_card(
    folder: Path, table: Table, reports: Sequence[StageReport], settings: Mapping[str, Any], plan: Mapping[str, int]
) -> None:
    """Write `README.md` of a data set, with histograms beside it where matplotlib is installed.

    Args:
        folder: of the build.
        table: the clips.
        reports: of the stages, in their order.
        settings: of the build, as JSON.
        plan: counts of the plan, see `sources.count_plan`.
    """
    values: dict[str, list[float]] = {name: [] for name in _HISTOGRAMS}
    for row in table:
        for name, (_, _, value) in _HISTOGRAMS.items():
            if "clip" in row and (number := value(row)) is not None:
                values[name].append(float(number))
    drawn = [name for name, numbers in values.items() if numbers and draw_histogram(name, numbers, folder)]
    for name in _HISTOGRAMS.keys() - set(drawn):  # of an earlier build with other settings
        (folder / f"{name}.png").unlink(missing_ok=True)
    names = [report.name for report in reports]
    lines = ["# Data card", "", f"{table.rows:,} rows came out of the last stage, `{reports[-1].name}`.", ""]
    lines += [f"The plan: {', '.join(f'{count:,} {name}' for name, count in plan.items())}.", ""]
    lines += ["| stage | in | out | failures |", "|---|---|---|---|"]
    lines += [f"| {one.name} | {one.rows_in:,} | {one.rows_out:,} | {one.failures:,} |" for one in reports]
    lines += ["", *(_left_out(folder) if "shots" in names else ()), *_failures(folder, reports)]
    for name in values:
        if values[name]:
            lines += _section(name, values[name], name in drawn)
    lines += ["## Settings", "", "```json", json.dumps(settings, indent=1, ensure_ascii=False), "```", ""]
    lines += [
        "## Rights",
        "",
        "Clips are parts of videos of others. Whoever uses them answers for the right to do so.",
        "",
    ]
    atomic_write_text(folder / "README.md", "\n".join(lines))


def _section(name: str, values: Sequence[float], is_drawn: bool) -> list[str]:
    title, unit, _ = _HISTOGRAMS[name]
    ordered = sorted(values)
    low, middle, high = (ordered[round(part * (len(ordered) - 1))] for part in (0.05, 0.5, 0.95))
    total = f", {sum(values) / 3600:,.2f} hours in all" if unit == "seconds" else ""
    text = f"Median {middle:.3g} {unit}, 5 to 95 % from {low:.3g} to {high:.3g}{total}."
    picture = [f"![{title}]({name}.png)", ""] if is_drawn else []
    return [f"## {title}", "", text, "", *picture]


def draw_histogram(name: str, values: Sequence[float], folder: Path) -> bool:
    """Write a histogram as PNG; False if matplotlib is not installed.

    Args:
        name: of the file, and what is counted: a key of the card's histograms.
        values: one or more.
        folder: for the file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    title, unit, _ = _HISTOGRAMS[name]
    figure = Figure(figsize=(6, 3.5), layout="constrained")  # not pyplot's, which would need a display
    axes = figure.subplots()
    axes.hist(values, bins=_BINS)
    axes.set(title=title, xlabel=unit, ylabel="clips")
    axes.grid(alpha=0.3)
    atomic_write(folder / f"{name}.png", lambda temporary: figure.savefig(temporary, format="png", dpi=100))
    return True


def _left_out(folder: Path) -> list[str]:
    """Return what the lengths of shots left out."""
    total: Counter[str] = Counter()
    for row in read_lines(folder / "stages" / "shots.jsonl"):
        total.update(row["left_out"])
    named = ", ".join(f"{count:,} {cause}" for cause, count in sorted(total.items()))
    return [f"Shots that were left out: {named}.", ""] if named else []


def _failures(folder: Path, reports: Iterable[StageReport]) -> list[str]:
    causes: Counter[tuple[str, str]] = Counter()
    for report in reports:
        for failure in read_lines(folder / "failures" / f"{report.name}.jsonl"):
            causes[report.name, _cause_of(failure)] += 1
    if not causes:
        return []
    lines = ["## Failures", "", "| stage | cause | number |", "|---|---|---|"]
    for (stage, cause), count in causes.most_common(_CAUSES):
        lines.append(f"| {stage} | {cause} | {count:,} |")
    return [*lines, "", "All of them are in `failures/`.", ""]


def _cause_of(failure: Row) -> str:
    """Return the cause of a failure for a table, without the names that make each one another."""
    cause = str(failure["cause"]).replace(str(failure["video"]), "...").replace("|", "/")
    return printable(cause)[:120]
