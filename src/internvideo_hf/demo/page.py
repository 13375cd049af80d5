"""Words, colors and layout of the page that `internvideo demo --index` serves; none names a folder of the machine."""

import html
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.checkpoints.model_names import DEMO_MODELS
from internvideo_hf.data.failures import shown_name
from internvideo_hf.demo.path_alias import without_folders
from internvideo_hf.demo.tour import LIMITS
from internvideo_hf.search.calibration import Calibration
from internvideo_hf.search.hits import OF_CAPTIONS, Hit, Hits, scores_line
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.utils.names import printable, without_number
from internvideo_hf.video.errors import VideoDecodeError

TITLE = "Search videos"

START = (
    "Write what a clip should show, in one sentence. The clips nearest to it in meaning come first, and those that "
    "match have a mark. Choose one to play it."
)
"""Shown before the first search."""

_LONGEST_NAME = 40  # characters of a video's name below its picture

STYLE = """
:root { --mark: #14663a; --on-mark: #ffffff; --ring: #1d4ed8; }
.dark { --mark: #4ade80; --on-mark: #052e16; --ring: #93c5fd; --color-accent: #60a5fa; }
.gradio-container { overflow: clip !important; }
.gradio-container .html-container { padding: 0; }
.gradio-container .main { max-width: 1280px; margin: 0 auto; }
.gradio-container :focus-visible { outline: 3px solid var(--ring) !important; outline-offset: 2px !important; }
.gradio-container :is(button, summary, textarea, input:not([type=file])) { min-height: 44px; }
.gradio-container :is(textarea, input) { font-size: 16px; } /* smaller ones let telephones zoom in */
.gradio-container :is(button, [role=button], .icon) { min-width: 44px; min-height: 44px; }
.gradio-container .prose { font-size: 16px; line-height: 1.5; overflow-wrap: anywhere; }
.prose h1 { font-size: 28px; margin: 8px 0 4px; }
.prose h2 { font-size: 20px; margin: 8px 0 4px; }
.prose .facts { margin: 0; color: var(--body-text-color-subdued); }
.prose .note { margin: 12px 0 0; padding: 8px 12px; border-left: 4px solid var(--ring); }
.prose .note, .prose details { background: var(--background-fill-secondary); border-radius: 4px; }
.prose .problem { padding: 8px 12px; border: solid var(--error-text-color) !important; border-width: 1px 1px 1px 4px;
  border-radius: 4px; background: var(--error-background-fill); }
.prose .problem p { margin: 0; color: var(--error-text-color); }
.prose summary { display: flex; align-items: center; padding: 0 12px; cursor: pointer; font-weight: 600; }
.prose summary::before { content: "+"; width: 20px; }
.prose details[open] summary::before { content: "-"; }
.prose dl { margin: 0; padding: 0 12px 12px 32px; }
.prose dt { font-weight: 600; }
.prose dd { margin: 0 0 8px; }
.gr-accordion { padding-top: 0 !important; padding-bottom: 0 !important; }
.gr-accordion .label-wrap { align-items: center; margin: 0; }
.gr-accordion .label-wrap .icon { min-width: 0; min-height: 0; }
#example .file-preview-holder { padding-right: 52px; }
#example td { vertical-align: middle; }
#example .download-link { display: inline-flex; align-items: center; min-width: 44px; min-height: 44px; }
#ask { align-items: end; }
#ask .head { align-items: center; }
#ask .tab-like-container { height: auto; }
#ask .tab-like-container input { width: 64px; height: 44px; font-size: 16px; }
#results:not(:has(.thumbnail-item)) { display: none; }
#hits .grid-wrap { max-height: none; overflow: visible; }
#hits .grid-container { grid-template-columns: repeat(auto-fill, minmax(200px, 1fr));
  grid-auto-rows: auto; gap: 12px; }
#hits .thumbnail-item { display: flex; flex-direction: column; height: 100%; aspect-ratio: auto; position: relative;
  background: var(--background-fill-secondary); filter: none; }
#hits .thumbnail-item.selected { outline: 3px solid var(--ring); outline-offset: 1px; }
#hits .thumbnail-item img { height: auto; aspect-ratio: 16 / 9; border-radius: 0;
  background: var(--border-color-primary); }
#hits .caption-label { position: static; width: 100%; max-width: none; padding: 8px; border: 0; opacity: 1;
  background: none; color: var(--body-text-color); font-size: 13px; line-height: 1.5; text-align: left;
  white-space: pre-line; overflow-wrap: anywhere; }
#hits .thumbnail-item:has(img[alt^="\\2713"]) { border: 3px solid var(--mark); }
#hits .thumbnail-item:has(img[alt^="\\2713"])::after { content: "\\2713  match"; position: absolute; top: 0; left: 0;
  padding: 2px 10px; background: var(--mark); color: var(--on-mark); font-size: 14px; font-weight: 600; }
#watch { position: sticky; top: 8px; align-self: flex-start; z-index: 100; }
#player:has(video) > label { display: none; }
#player .controls :is(.icon, button) { display: inline-flex; align-items: center; justify-content: center; }
.gradio-container .controls:focus-within { opacity: 1; }
#answers table { width: 100%; border-collapse: collapse; }
#answers :is(table, thead, tbody, tr) { border: 0; }
#answers :is(th, td) { padding: 8px; border: 0; border-bottom: 1px solid var(--border-color-primary); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
#answers th { color: var(--body-text-color-subdued); font-weight: 600; }
#answers .bar { height: 4px; margin-top: 4px; border-radius: 2px; background: var(--ring); }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media (max-width: 640px) {
  .gradio-container .main { padding: 12px; }
  .prose h1 { font-size: 24px; }
  #ask .form > * { flex-basis: 100%; }
  #hits .grid-container { grid-template-columns: 1fr 1fr; gap: 8px; }
  #results { flex-direction: column; }
  #watch { order: -1; width: 100%; top: 0; background: var(--body-background-fill); }
  #watch:not(:has(video)) { display: none; }
  #player video { max-height: 38vh; }
}
"""
"""Style sheet. Things to press have 44 pixels, as fingers need."""


def theme(gr: Any) -> Any:
    """Return the colors of the page, as a theme of gradio; texts have a contrast of at least 4.5:1, light and dark.

    Args:
        gr: the module gradio.
    """
    plain = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font="sans-serif", font_mono="monospace")
    colors = {
        "body_text_color": ("*neutral_900", "*neutral_100"),
        "body_text_color_subdued": ("*neutral_600", "*neutral_300"),
        "block_title_text_color": ("*neutral_700", "*neutral_200"),
        "block_label_text_color": ("*neutral_700", "*neutral_200"),
        "input_placeholder_color": ("*neutral_500", "*neutral_400"),
        "input_border_color": ("*neutral_500", "*neutral_400"),
        "button_primary_background_fill": ("*primary_700", "*primary_700"),
        "button_primary_background_fill_hover": ("*primary_800", "*primary_600"),
        "button_primary_border_color": ("*primary_700", "*primary_700"),
        "color_accent": ("*primary_700", None),
        "error_text_color": ("#991b1b", "#fecaca"),
    }
    both = {name: light for name, (light, _) in colors.items()}
    return plain.set(**both, **{f"{name}_dark": dark for name, (_, dark) in colors.items() if dark})


def heading(index: VideoIndex) -> str:
    """Return the head of the page: what it searches, with which model, and the limits of a toy model."""
    place = index.folder.resolve().name if index.folder is not None else index.place
    name = place or "Videos in memory"
    model = Path(index.model).name if os.path.isabs(index.model) else index.model
    facts = f"{name}: {len(index.videos)} videos in {len(index)} clips. Model: {model}"
    limits = note(LIMITS) if is_toy(index) else ""
    return f'<h1>{TITLE}</h1><p class="facts">{html.escape(printable(facts))}</p>{limits}'


def is_toy(index: VideoIndex) -> bool:
    """Return whether an index is of a bundled toy model."""
    return any(Path(index.model).resolve() == folder.resolve() for folder in DEMO_MODELS.values())


def short_names(videos: Iterable[str]) -> dict[str, str]:
    """Return the file name of each video, with as many of its folders as tell it from the others.

    Args:
        videos: paths and addresses.
    """
    parts = {video: shown_name(video).strip("/").split("/") for video in videos}
    names: dict[str, str] = {}
    depth = 1
    while parts:
        tails = {video: "/".join(names_of[-depth:]) for video, names_of in parts.items()}
        counts = Counter(tails.values())
        names |= {video: tail for video, tail in tails.items() if counts[tail] == 1 or depth >= len(parts[video])}
        parts = {video: names_of for video, names_of in parts.items() if video not in names}
        depth += 1
    return names


def caption(place: int, hit: Hit, name: str | None = None) -> str:
    """Format a hit in lines: rank (from 1) and file, time, scores; a tick before all marks a match.

    Args:
        place: the rank.
        hit: the hit.
        name: of its video; the file name by default. The middle of a long one is left out.
    """
    name = printable(name or hit.name)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2 - 1]}\N{HORIZONTAL ELLIPSIS}{name[-_LONGEST_NAME // 2 :]}"
    mark = "\N{CHECK MARK} " if hit.matches else ""
    scores = scores_line(hit).removesuffix(OF_CAPTIONS)
    return "\n".join(filter(None, (f"{mark}{place}. {name}", hit.time, scores)))


def verdict(hits: Hits) -> str:
    """Return how many hits match, and what their scores mean."""
    matching, count = sum(bool(hit.matches) for hit in hits), len(hits)
    if hits.matches is None:
        line = f"The {count} of {hits.clips} clips that are most similar to the example"
    elif matching:
        line = f"{matching} of these {count} clips {'matches' if matching == 1 else 'match'}"
    else:
        line = f"Nothing here matches: these are the nearest of {hits.clips} clips"
    return f"<h2>{line}</h2><p>Choose a clip to play it.</p>{_legend(_scores(hits.calibration))}"


def answers(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of labels, their scores in percent, and cosines, and what these mean."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("label", "score", "cosine"))
    lines = "".join(
        f'<tr><td>{html.escape(label)}</td><td>{score}<div class="bar" style="width: {score}"></div></td>'
        f"<td>{cosine}</td></tr>"
        for label, score, cosine in rows
    )
    legend = {
        "score": "Probability of the label, if exactly one of these labels is true. The scores add up to 100%, so one "
        "label has the highest score even if none is true.",
        "cosine": "Similarity of the clip and the sentence around the label, -1 to 1. Other labels do not change it.",
    }
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return table + _legend(legend)


def message(error: Exception) -> str:
    """Format an error for the page, with the names of files and without their folders."""
    if isinstance(error, VideoDecodeError) and error.cause is not None:
        name = os.path.basename(error.source.rstrip("/"))
        return printable(f"{name}: {without_folders(f'{error.cause}. {error.advice}')}")
    said = without_number(getattr(error, "in_shell", error))  # without the words of Python
    return without_folders(said) or type(error).__name__


def note(text: str) -> str:
    """Return a remark as a box, or nothing if there is none."""
    return f'<div class="note">{paragraphs(text)}</div>' if text else ""


def problem(error: Exception) -> str:
    """Return an error as a box, which screen readers read at once."""
    return f'<div class="problem" role="alert">{paragraphs(message(error))}</div>'


def paragraphs(text: str) -> str:
    """Return the lines of a text as HTML, what stands between backticks as code."""
    lines = [re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(line)) for line in text.splitlines()]
    return "".join(f"<p>{line}</p>" for line in lines)


def _scores(calibration: Calibration | None) -> dict[str, str]:
    cosine = {
        "cosine": "Similarity of query and clip, -1 to 1. It has no absolute scale: with many models, true pairs "
        "reach only about 0.3."
    }
    if calibration is None:
        return cosine
    if calibration.cosine is None:
        rule = "The clip's z is so high that by chance fewer than one search in twenty would find such a clip."
    else:
        rule = (
            f"The clip's cosine is at least {calibration.cosine:.3f}. With this model {calibration.true:.0%} of true "
            f"sentences reach that, and so do {calibration.absent:.0%} of the sentences that describe none of "
            f"{calibration.gallery} clips."
        )
    return {
        "\N{CHECK MARK} match": rule,
        **cosine,
        "z": f"How far the cosine stands out: standard deviations above the mean cosine of the clip with "
        f"{len(calibration.captions)} captions that do not describe it. At 0 the query fits like any of those.",
        "above, in percent": "How many of those captions are less similar to the clip than the query.",
    }


def _legend(terms: dict[str, str]) -> str:
    entries = "".join(f"<dt>{term}</dt><dd>{html.escape(meaning)}</dd>" for term, meaning in terms.items())
    return f"<details><summary>What the scores mean</summary><dl>{entries}</dl></details>"
