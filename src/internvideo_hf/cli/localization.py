"""The command that finds actions in videos: `localize`."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.inference import Writer, unique_videos, writers_of
from internvideo_hf.cli.lines import Lines, Workers, write_list
from internvideo_hf.cli.options import (
    MODEL_HELP,
    SAVED,
    Address,
    AnswerTimeout,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    EngineName,
    Gpus,
    Quiet,
    Retry,
    Videos,
    parse_device,
    parse_dtype,
    read_text,
    resolve_model,
)
from internvideo_hf.cli.reporting import DAMAGED, VideoReport, show_progress, silence_transformers
from internvideo_hf.inference.kinds import CLASSIFIER, FEATURE_HEAD
from internvideo_hf.utils.names import clock, printable, reason_of

if TYPE_CHECKING:
    from internvideo_hf.inference.answering import Question
    from internvideo_hf.inference.features import FeatureExtractor
    from internvideo_hf.inference.untrimmed import VideoFeatures
    from internvideo_hf.tasks.temporal_localization.localization import Localization

_OF_SEVERAL = "of several videos a folder"


def localize(
    videos: Videos,
    model: Annotated[
        str,
        typer.Option(
            help=MODEL_HELP.replace("converted model", "head, such as an ActionFormer"), autocompletion=model_names
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Model that makes the head's features, of this package or of transformers (default: its own)."
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(help="Video classifier that names the actions, or a .json of its scores: {VIDEO: [SCORE, ...]}."),
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="Text file with the classes of a .json of scores, one a line.")
    ] = None,
    proposals: Annotated[
        Path | None,
        typer.Option(
            help="Segments of another model, for a head that refines them: ActivityNet's JSON, that of localize "
            "--json, or a folder of BMN's .csv files."
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Actions to show per video, the best first.")] = 20,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Least score of an action to show.")] = 0.1,
    timeline: Annotated[
        Path | None, typer.Option(help=f"Picture of frames and colored bars, such as out.png; {_OF_SEVERAL}.")
    ] = None,
    vtt: Annotated[Path | None, typer.Option(help=f"Subtitles, such as match.vtt; {_OF_SEVERAL}.")] = None,
    ass: Annotated[Path | None, typer.Option(help=f"Subtitles, such as match.ass; {_OF_SEVERAL}.")] = None,
    activitynet: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of all actions in the layout of ActivityNet's results, by the name of the video without "
            "its ending, or all of it where two are the same."
        ),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Features of the video, in place of the encoder (.safetensors, .npy, ...).")
    ] = None,
    stride: Annotated[float | None, typer.Option(help="--features: frames from one row to the next.")] = None,
    fps: Annotated[float | None, typer.Option(help="--features: frames a second in which the stride counts.")] = None,
    window: Annotated[float | None, typer.Option(help="--features: frames of a row's window.")] = None,
    keep_features: Annotated[
        bool, typer.Option("--keep-features", help="Keep the features beside each video, for the next call.")
    ] = False,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    out: Lines = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: AnswerTimeout = None,
    retry: Retry = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the actions in videos: what happens, when it begins and when it ends.

    Windows of a video become features by the encoder, and features become segments by the head. A damaged stretch
    leaves a gap, which the answer names. Resumable: rerun the same command after an interruption.

    Example: internvideo localize match.mp4 --model head --timeline match.png --vtt match.vtt

    A head that refines segments, such as a TCANet, takes them from --proposals.

    Example: internvideo localize videos --model head --encoder vit-h-k710 --classifier vit-h-k400 --json

    Example: internvideo localize videos --model head --out actions.jsonl --gpus 8 --video-timeout 3600
    """
    workers = Workers(engine, address, gpus, video_timeout, device, retry)
    files = {"--timeline": timeline, "--vtt": vtt, "--ass": ass, "--activitynet": activitynet, "--features": features}
    workers.check(out, {"--json": as_json, **files})
    number_type, named = parse_dtype(dtype, device, model, encoder, classifier), unique_videos(videos, quiet)
    head = resolve_model(model, FEATURE_HEAD)
    if out is not None:
        timing = {"--stride": stride, "--fps": fps, "--window": window}
        _check_features(None, timing, encoder, named, keep_features)
        how = {"top_k": top_k, "min_score": min_score, "batch_size": batch_size, "dtype": number_type}
        how |= {"keep": keep_features, "title": model}
        asked = _question(head, encoder, classifier, {"labels_file": labels_file, "proposals": proposals}, how)
        write_list(out, [path for path, _ in named], asked, workers, quiet=quiet, description="Localizing")
        return
    outputs = {"--timeline": (".png", timeline), "--vtt": (".vtt", vtt), "--ass": (".ass", ass)}
    writers = writers_of(videos, named, outputs)
    timing = {"--stride": stride, "--fps": fps, "--window": window}
    _check_features(features, timing, encoder, named, keep_features)
    if activitynet is not None:
        from internvideo_hf.utils.files import check_output_file

        check_output_file(activitynet)
    silence_transformers()
    where = {"device": parse_device(device), "dtype": number_type}
    localizer = _load(head, classifier, labels_file, proposals, where)
    config = localizer.model.config
    if features is not None:
        from internvideo_hf.tasks.temporal_localization.localization import read_given

        given = read_given(features, config, named[0][0], stride=stride, fps=fps, window=window)
        read: Callable[[str, str], VideoFeatures] = lambda video, name: given  # noqa: E731
    else:
        from internvideo_hf.inference.untrimmed import extractor_for

        named_encoder = None if encoder is None else resolve_model(encoder, any_family=True)
        extractor = extractor_for(config, named_encoder, model, batch_size=batch_size, **where)
        read = partial(extract_video, extractor, config, keep=keep_features, quiet=quiet)
    answers = _Answers(top_k, min_score, as_json, writers)
    for (video, name), own in zip(named, _activitynet_ids(named), strict=True):
        answers.add(
            video,
            own,
            lambda video: answers.write(localizer.localize(read(video, name), video), video),  # noqa: B023
        )
    answers.report(activitynet)


def _question(
    head: str, encoder: str | None, classifier: str | None, files: dict[str, Path | None], how: dict[str, Any]
) -> "Question":
    """Return what a worker asks about each video; see `_Localizer`."""
    from transformers import AutoConfig

    from internvideo_hf.inference.answering import Question
    from internvideo_hf.inference.rows import Loader
    from internvideo_hf.inference.untrimmed import encoder_of
    from internvideo_hf.utils.pretrained import load_pretrained

    makes = encoder if encoder is not None else encoder_of(load_pretrained(AutoConfig, head))
    models = [head, *([] if makes is None else [resolve_model(str(makes), any_family=True)])]
    read = [str(file) for file in files.values() if file is not None]
    if classifier is not None and classifier.lower().endswith(".json"):
        read.append(classifier)
    elif classifier is not None:
        models.append(resolve_model(classifier, CLASSIFIER))
    how |= {"encoder": encoder, "classifier": classifier, **{name: file and str(file) for name, file in files.items()}}
    return Question(Loader(_Localizer, head, tuple(how.items())), tuple(models), tuple(read), decodes_apart=False)


class _Localizer:
    """Finds the actions of each video in a worker; see `answering.Answerer`.

    Args:
        head: folder of the head.
        device: of the worker.
        encoder, classifier, labels_file, proposals, top_k, min_score, batch_size, dtype, keep: options of the command.
        title: name of the head in messages.
    """

    def __init__(
        self,
        head: str,
        *,
        device: str | None,
        encoder: str | None,
        classifier: str | None,
        labels_file: str | None,
        proposals: str | None,
        top_k: int,
        min_score: float,
        batch_size: int,
        dtype: str | None,
        keep: bool,
        title: str,
    ):
        from internvideo_hf.inference.untrimmed import extractor_for

        silence_transformers()
        where = {"device": parse_device(device), "dtype": dtype}
        labels, segments = (None if file is None else Path(file) for file in (labels_file, proposals))
        self._localizer = _load(head, classifier, labels, segments, where)
        config = self._localizer.model.config
        named = None if encoder is None else resolve_model(encoder, any_family=True)
        extractor = extractor_for(config, named, title, batch_size=batch_size, **where)
        self._read = partial(extract_video, extractor, config, keep=keep, quiet=True)
        self._best = top_k, min_score

    def reader(self) -> None:
        """Return none: windows are decoded where they are embedded."""

    def answer(self, video: str, inputs: None) -> dict[str, Any]:
        """Return the actions of a video."""
        found: dict[str, Any] = self._localizer.localize(self._read(video, video), video).best(*self._best).to_dict()
        return found


def _load(
    head: str, classifier: str | None, labels_file: Path | None, proposals: Path | None, where: dict[str, Any]
) -> Any:
    """Return the head with what names its segments."""
    from internvideo_hf.auto import auto_class
    from internvideo_hf.inference.runner import load_model
    from internvideo_hf.tasks.temporal_localization.localization import ClassScorer, Localizer
    from internvideo_hf.tasks.temporal_localization.proposals import read_proposals

    scorer = None
    if classifier is not None:
        labels = None if labels_file is None else _read_labels(labels_file)
        is_file = classifier.lower().endswith(".json")
        source = classifier if is_file else resolve_model(classifier, CLASSIFIER)
        scorer = ClassScorer.open(source, labels, **where)
    elif labels_file is not None:
        raise ValueError("--labels-file names the classes of --classifier SCORES.json. Give both, or none.")
    known = None if proposals is None else read_proposals(proposals)
    model = load_model(auto_class("AutoModelForTemporalLocalization"), head, **where)
    return Localizer(model, scorer, proposals=known)


def _read_labels(path: Path) -> list[str]:
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]
    except OSError as error:
        raise ValueError(f"--labels-file {path} cannot be read ({reason_of(error)}). Check the path.") from error


def _check_features(
    features: Path | None,
    timing: dict[str, float | None],
    encoder: str | None,
    named: list[tuple[str, str]],
    keep: bool,
) -> None:
    """Refuse options that do not go with each other, before anything is loaded."""
    for option, value in timing.items():
        if value is not None and features is None:
            raise ValueError(f"{option} is for --features; the head names the windows of the encoder.")
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{option} {value:g}: expected a number above 0.")
    if features is None:
        return
    if keep:
        raise ValueError("--keep-features is for features of the encoder. Leave it out, or --features.")
    if (timing["--stride"] is None) != (timing["--fps"] is None):
        raise ValueError("Give --stride and --fps of --features, both or none.")
    if encoder is not None:
        raise ValueError("--features takes the place of --encoder. Leave out one of them.")
    if len(named) > 1:
        raise ValueError(f"--features {features} is of one video, and there are {len(named)}. Name one.")


def extract_video(
    extractor: "FeatureExtractor", config: Any, video: str, name: str, *, keep: bool, quiet: bool
) -> "VideoFeatures":
    """Extract the features of a video for a head, in a file from which the next call goes on.

    Args:
        extractor: encoder and windows.
        config: of the head.
        video: path or address.
        name: of the video, for the progress bar.
        keep: leave the file beside the video; it is deleted otherwise.
        quiet: show no progress bar.
    """
    from tqdm import tqdm

    from internvideo_hf.inference.untrimmed import extract_features, features_file, resizing_of

    path, resizing = features_file(extractor, video, keep=keep), resizing_of(config)
    with tqdm(desc=printable(name), unit="row", disable=quiet) as bar:
        found = extract_features(extractor, video, path=path, on_rows=partial(show_progress, bar), **resizing)
    if not keep:
        for file in (path, path.with_suffix(".json")):
            file.unlink(missing_ok=True)
    return found


def _activitynet_ids(named: list[tuple[str, str]]) -> list[str]:
    """Return the id of each video in ActivityNet's files, which are named by it with "v_" before."""
    from internvideo_hf.data.finding import distinct_ids

    ids = distinct_ids([name for _, name in named])
    short = [own[2:] if re.fullmatch(r"v_[\w-]{11}", own) else own for own in ids]
    return short if len(set(short)) == len(ids) else ids


class _Answers(VideoReport["Localization"]):
    """Prints and writes the actions of each video."""

    def __init__(self, top_k: int, min_score: float, as_json: bool, writers: list[Writer]):
        super().__init__(as_json)
        self._top_k, self._min_score, self._writers = top_k, min_score, writers

    def entry(self, found: "Localization") -> dict[str, Any]:
        return found.best(self._top_k, self._min_score).to_dict()

    def lines(self, found: "Localization") -> list[str]:
        return _table(found.best(self._top_k, self._min_score), self._min_score)

    def write(self, found: "Localization", video: str) -> "Localization":
        """Return the actions of a video after its files are written, whose failure is the video's."""
        from internvideo_hf.tasks.temporal_localization.subtitles import save_subtitles
        from internvideo_hf.tasks.temporal_localization.timeline import draw_timeline
        from internvideo_hf.utils.pictures import save_picture

        shown = found.best(self._top_k, self._min_score)
        for suffix, files in self._writers:
            if suffix == ".png":
                save_picture(draw_timeline(video, shown), files[video])
            else:
                save_subtitles(shown, files[video])
        return found

    def report(self, activitynet: Path | None) -> None:
        """Write what concerns all videos, and end."""
        import json

        from internvideo_hf.tasks.temporal_localization.subtitles import to_activitynet
        from internvideo_hf.utils.files import atomic_write_text

        if activitynet is not None and self.found:
            activitynet.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(activitynet, json.dumps(to_activitynet(self.found)))
        self.end()


def _table(found: "Localization", min_score: float) -> list[str]:
    """Return the lines of a video's actions and gaps."""
    width = max((len(action.label) for action in found.actions), default=0)
    lines = [
        f"  {clock(action.start)} - {clock(action.end)}  {action.label:{width}}  {action.score:6.1%}"
        for action in found.actions
    ]
    if not lines:
        lines = [f"  no action scores {min_score:g} or more (--min-score)"]
    return lines + [f"  {clock(start)} - {clock(end)}  {DAMAGED}" for start, end in found.gaps]
