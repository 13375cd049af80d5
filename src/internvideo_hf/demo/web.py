"""`internvideo demo --index`: a web page that searches an index, plays hits and labels clips (extra `demo`)."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoProcessor, pipeline

from internvideo_hf.data.thumbnails import tile
from internvideo_hf.data.transcoding import TranscodeSettings, cut_video
from internvideo_hf.demo.guard import MOST_UPLOAD, Guard, own_names
from internvideo_hf.demo.page import (
    START,
    STYLE,
    TITLE,
    answers,
    caption,
    heading,
    is_toy,
    note,
    paragraphs,
    problem,
    short_names,
    theme,
    verdict,
)
from internvideo_hf.demo.path_alias import PathAlias, without_folders
from internvideo_hf.demo.tour import LIMITS
from internvideo_hf.processing.scripts import remark_on
from internvideo_hf.search.hits import Hit, Hits
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.utils.fingerprints import text_sha256
from internvideo_hf.utils.names import printable
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.scratch import scratch_directory
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

MOST_HITS = 24
"""Maximum number of hits per search."""

LONGEST = 60.0
"""Maximum seconds of a clip to play."""

MOST_LABELS = 500
"""Maximum number of labels per clip."""

MOST_TEXT = 20_000
"""Maximum number of characters of a query, of all labels, or of a template."""

_ROUNDING = 6e-4  # seconds; times of hits are rounded to milliseconds
_PLAYED = TranscodeSettings(short_side=480, keyframe_interval=25)


def about(index: VideoIndex) -> str:
    """Describe the index and its model for a shell in one line, and in a second one the limits of a toy model."""
    clips = f"{len(index.videos)} videos in {len(index)} clips"
    line = f"{index.place or 'An index in memory'}: {clips}. Model: {index.model}"
    return f"{line}\n{LIMITS}" if is_toy(index) else line


def frames_of(hit: Hit, reader: VideoReader) -> range:
    """Return the frame indices of a clip in its video.

    Raises:
        VideoDecodeError: if the video no longer has frames there.
    """
    count, times = reader.num_frames, reader.timeline
    if hit.start is None or hit.end is None or times is None:
        return range(count)
    first, last = times.searchsorted([hit.start - _ROUNDING, hit.end - _ROUNDING]).tolist()
    if hit.end >= times[-1] - _ROUNDING:
        last = count
    if first >= last:
        raise VideoDecodeError(hit.video, f"it no longer has frames at {hit.time}", "Rerun `internvideo index`.")
    return range(first, last)


def cut_clip(hit: Hit, folder: Path) -> Path:
    """Write at most `LONGEST` seconds of a clip as a small H.264 file without sound, which browsers can play.

    Args:
        hit: the clip.
        folder: the folder to write to; the same clip gets the same file.

    Raises:
        VideoDecodeError: if its video cannot be read.
        OSError: if the file cannot be written.
    """
    key = text_sha256(f"{hit.video} {hit.start} {hit.end}")[:16]
    target = folder / key / f"{Path(hit.name).stem}.mp4"
    with VideoReader(hit.video, backend="pyav") as reader:
        frames = frames_of(hit, reader)
        times = np.arange(reader.num_frames) / 25 if reader.timeline is None else reader.timeline
        longest = int(times[frames.start :].searchsorted(times[frames.start] + LONGEST))
        target.parent.mkdir(parents=True, exist_ok=True)
        cut_video(reader, target, frames[:longest], _PLAYED)
    return target


def labels_of(text: str) -> list[str]:
    """Split a text into labels at commas and line ends."""
    return [label for label in map(str.strip, re.split(r"[,\n]", text)) if label]


def label_rows(
    classify: Callable[..., list[dict[str, Any]]], video: str | None, labels: str, template: str = ""
) -> list[list[str]]:
    """Return label, score and cosine of each label for a video, best first.

    Args:
        classify: a zero-shot-video-classification pipeline.
        video: a file.
        labels: labels separated by commas or lines.
        template: the sentence around each label, with `{}` in its place; the pipeline's default if empty.

    Raises:
        ValueError: if there is no video or no label, there are too many, a label is repeated, or the template has no
            `{}`.
        VideoDecodeError: if the video cannot be read.
    """
    if not video:
        raise ValueError("There is no clip yet. Upload one first.")
    _check_text(labels)
    _check_text(template)
    candidates = labels_of(labels)
    if not candidates:
        raise ValueError("There are no labels. Write some, separated by commas or lines.")
    if len(candidates) > MOST_LABELS:
        raise ValueError(f"There are {len(candidates)} labels, more than {MOST_LABELS}. Take fewer.")
    if repeated := sorted({label for label in candidates if candidates.count(label) > 1}):
        raise ValueError(f"The labels hold {', '.join(repeated)} twice. Write each once.")
    options = {"hypothesis_template": template.strip()} if template.strip() else {}
    answers = classify(video, candidate_labels=candidates, **options)
    return [[answer["label"], f"{answer['score']:.1%}", f"{answer['similarity']:.3f}"] for answer in answers]


def build_app(index: VideoIndex, folder: Path) -> Any:
    """Build the page as a `gradio.Blocks`, without launching it.

    Args:
        index: the index to search.
        folder: the folder for cut clips.

    Raises:
        ImportError: if gradio is not installed (extra `demo`).
        ValueError: if the index is empty, or was made with another model.
    """
    gr = _gradio()
    if not len(index):
        raise ValueError(f"{index.place} holds no videos. Add some by `internvideo index`.")
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        gr.HTML(heading(index), elem_id="heading", padding=False)
        with gr.Tab("Search"):
            _add_search(gr, index, folder)
        with gr.Tab("Labels"):
            if index.encoder.text_problem is None:
                _add_labels(gr, index)
            else:
                gr.HTML(paragraphs(without_folders(index.encoder.text_problem)), padding=False)
    return app


def _add_search(gr: Any, index: VideoIndex, folder: Path) -> None:
    names = short_names(index.videos)

    def show(hits: Hits, remark: str = "") -> tuple[Any, ...]:
        pictures = [
            (tile(hit.video, hit.start, hit.end), caption(place, hit, names.get(hit.video)))
            for place, hit in enumerate(hits, 1)
        ]
        return note(remark) + verdict(hits), gr.Gallery(pictures, selected_index=None), hits, None, ""

    @_catch_errors(4)
    def search(text: str, count: float) -> tuple[Any, ...]:
        _check_text(text)
        return show(index.search(text, top_k=int(count)), remark_on([text]))

    @_catch_errors(4)
    def search_by_example(file: str | None, count: float) -> tuple[Any, ...]:
        if file is None:
            raise ValueError("There is no example yet. Upload a video or an image first.")
        return show(index.search(video=file, top_k=int(count)))

    # Gradio reads the annotation at run time.
    @_catch_errors(1)
    def play(hits: Hits | None, chosen: gr.SelectData) -> tuple[str, str]:
        if hits is None:  # the page is older than this process
            raise ValueError("These hits are of an earlier session. Search again.")
        hit = hits[chosen.index]
        is_long = hit.start is not None and hit.end - hit.start > LONGEST
        line = f"{names.get(hit.video, hit.name)}  {hit.time}{f', first {LONGEST:.0f} s' if is_long else ''}"
        return paragraphs(printable(line)), str(cut_clip(hit, folder))

    sentence = "a small red heart grows over a striped background" if is_toy(index) else "a dog catches a frisbee"
    with gr.Row(elem_id="ask"):
        text = gr.Textbox(
            label="What the clips should show", placeholder=f"Such as: {sentence}", scale=4, autofocus=True
        )
        count = gr.Slider(1, MOST_HITS, value=6, step=1, label="Number of clips", scale=2, buttons=[])
        button = gr.Button("Search", variant="primary", scale=1)
    with gr.Accordion("Search by an example instead", open=False):
        example = gr.File(label="A video or an image", elem_id="example")
    found = gr.HTML(paragraphs(START), elem_id="verdict", padding=False)
    with gr.Row(elem_id="results"):
        gallery = gr.Gallery(
            show_label=False,
            height="auto",
            object_fit="contain",
            allow_preview=False,
            buttons=[],
            elem_id="hits",
            scale=3,
        )
        with gr.Column(scale=2, elem_id="watch"):
            player = gr.Video(
                label="Choose a clip to play it",
                interactive=False,
                autoplay=True,
                loop=True,
                buttons=[],
                elem_id="player",
            )
            played = gr.HTML(elem_id="played", padding=False)
    hits = gr.State()
    outputs = [found, gallery, hits, player, played]
    gr.on([button.click, text.submit], search, [text, count], outputs, api_name="search")
    example.upload(search_by_example, [example, count], outputs, api_name="search_by_example")
    gallery.select(play, hits, [played, player], api_visibility="private")


def _check_text(text: str) -> None:
    if len(text) > MOST_TEXT:
        raise ValueError(f"The text has {len(text)} characters, more than {MOST_TEXT}. Shorten it.")


def _add_labels(gr: Any, index: VideoIndex) -> None:
    encoder = index.encoder
    classify = pipeline(  # type: ignore[call-overload]  # the stub knows transformers' own tasks only
        "zero-shot-video-classification",
        model=encoder.model,
        processor=load_pretrained(AutoProcessor, index.model),
        device=encoder.device,
    )

    @_catch_errors(0)
    def label(video: str | None, labels: str, template: str) -> str:
        rows = label_rows(classify, video, labels, template)
        return note(remark_on(labels_of(labels))) + answers(rows)

    with gr.Row():
        with gr.Column():
            video = gr.Video(label="A clip", sources=["upload"], height=320, elem_id="clip")
            labels = gr.Textbox(label="Labels, separated by commas or lines", lines=3)
            template = gr.Textbox(label="Sentence around each label", placeholder="A video of {}.")
            button = gr.Button("Label", variant="primary")
        with gr.Column():
            table = gr.HTML(elem_id="answers", padding=False)
    button.click(label, [video, labels, template], table, api_name="label")


def _catch_errors(others: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate an event handler: a user's mistake or an unreadable file becomes a message in its first output.

    The `others` outputs are cleared.
    """

    def decorate(answer: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(answer)
        def attempt(*arguments: Any) -> Any:
            try:
                return answer(*arguments)
            except Exception as error:  # whatever a file does to a decoder
                return (problem(error), *[None] * others) if others else problem(error)

        return attempt

    return decorate


@contextmanager
def serving(index: VideoIndex, host: str = "127.0.0.1", port: int = 7860, names: Sequence[str] = ()) -> Iterator[str]:
    """Serve the page and yield its address; on exit, delete everything that it wrote (after a kill, the next start).

    The only files served are clips cut from videos of the index, images of them, and uploads. Requests that name
    another host than this one are refused, and uploads that are too large, see `guard`.

    Args:
        index: the index to search.
        host: the address to listen on; by default, this machine only.
        port: the port to listen on, 1-65535.
        names: further names under which the page is asked for, such as that of a proxy.

    Raises:
        ImportError: if gradio is not installed (extra `demo`).
        ValueError: see `build_app`.
        OSError: if the port is not free.
    """
    gr = _gradio()
    with (
        scratch_directory("page") as folder,
        # Gradio's default place for uploads and images is readable by other users, and never cleared.
        _environment("GRADIO_TEMP_DIR", str(folder)),
    ):
        clips = folder / "clips"
        clips.mkdir()
        app = build_app(index, clips)
        from starlette.middleware import Middleware  # of gradio

        layers = [
            Middleware(Guard, names=own_names(host, names), folder=folder),
            Middleware(PathAlias, folder=folder),
        ]
        try:
            app.launch(
                server_name=host,
                server_port=port,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                max_file_size=MOST_UPLOAD,
                app_kwargs={"middleware": layers},
                allowed_paths=[str(clips)],  # an empty list would mean those of the environment
                run_history=False,
                mcp_server=False,
                ssr_mode=False,
                footer_links=[],
                theme=theme(gr),
                css=STYLE,
            )
        except OSError as error:
            raise OSError(f"Cannot listen on {host}, port {port}. Choose another by --port or --host.") from error
        try:
            yield app.local_url
        finally:
            app.close(verbose=False)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise ImportError(
            f"The page needs gradio, which cannot be imported ({error}): pip install 'internvideo-hf[demo]'. "
            "`internvideo search` works without it."
        ) from error
    return gradio
