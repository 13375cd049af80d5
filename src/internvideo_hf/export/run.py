"""Export a model: trace its functions, write them, compare them with torch, and keep the folder if they agree."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor
from transformers.modeling_utils import PreTrainedModel

import internvideo_hf
from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.cards import write_card
from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.checkpoints.saving import check_replaceable
from internvideo_hf.export.functions import Traceable, functions_of
from internvideo_hf.export.parity import BOUNDS, ParityError, check, compare
from internvideo_hf.export.samples import drawn_features, drawn_inputs, fix_size, read_clips
from internvideo_hf.export.scoring import read_samples, score
from internvideo_hf.export.writers import WRITERS, Clips
from internvideo_hf.inference.embedder import facts, fingerprint
from internvideo_hf.inference.runner import VideoProcessor, cosine_scale
from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.classification import VideoClassifier
from internvideo_hf.models.common.exported.graphs import open_graphs
from internvideo_hf.models.common.exported.manifest import (
    EXPORT_FILE,
    NUMBERS,
    UNLISTED,
    Agreement,
    Function,
    Manifest,
    is_exported,
)
from internvideo_hf.models.common.exported.modeling import KINDS, VIDEO, ExportedCaptioner
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.utils.files import atomic_directory, atomic_write_text, check_output
from internvideo_hf.utils.fingerprints import file_sha256, files_sha256, json_sha256, tensors_sha256
from internvideo_hf.utils.names import check_name, with_article
from internvideo_hf.utils.pretrained import load_pretrained

CALIBRATION = 256
"""The most clips that ranges of activations are measured on: all are in memory."""


@dataclass(frozen=True)
class Settings:
    """How a model is exported.

    Args:
        format: a name in `WRITERS`.
        dtype: number type of the weights, one of `NUMBERS` for the format.
        frames: of a clip; as the processor is configured if None.
        size: height and width of the frames in pixels; as the processor is configured if None.
        calibrate: for int8: videos, on which the ranges of activations are measured, on `CALIBRATION` at most.
        evaluate: a list on which the model and its export are scored; see `scoring.read_samples`.

    Raises:
        ValueError: if a name is unknown, a number is below 1, or int8 and videos come without each other.
    """

    format: str
    dtype: str = "float32"
    frames: int | None = None
    size: int | None = None
    calibrate: tuple[str, ...] = ()
    evaluate: str | None = None

    def __post_init__(self) -> None:
        check_name(self.format, WRITERS, "format")
        check_name(self.dtype, NUMBERS[self.format], f"dtype of {self.format}")
        if self.dtype == "int8" and not self.calibrate:
            raise ValueError(
                "dtype=int8 needs videos of calibration. Name about 100 of the kind that the model will see "
                "(--calibrate)."
            )
        if self.dtype != "int8" and self.calibrate:
            raise ValueError(
                f"dtype={self.dtype} takes no videos of calibration, got {len(self.calibrate)}. Choose dtype=int8, or "
                "leave out --calibrate."
            )
        for name, number in (("frames", self.frames), ("size", self.size)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} must be at least 1.")


def export_model(
    model: str | Path,
    output_dir: str | Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    say: Callable[[str], object] = lambda text: None,
) -> Manifest:
    """Export a model into a folder that every command takes in its place; nothing is written unless it agrees.

    Args:
        model: folder or name of a model of this package; see `resolve_model`.
        output_dir: the folder to write, atomically.
        settings: format, number type, frames and size.
        overwrite: replace `output_dir` if it holds a model.
        say: called with a text that says what comes next.

    Returns:
        The content of `export.json`.

    Raises:
        ValueError: if the model is not one that is exported, does not take the frames or the size, or the format
            lacks an operator; `ParityError` if an output differs from torch's by more than `BOUNDS`.
        FileExistsError: if `output_dir` is in the way.
        ModuleNotFoundError: if the extra `export` is not installed.
    """
    output_dir, name = Path(output_dir), resolve_model(model)
    check_replaceable(output_dir, overwrite)
    if Path(name).is_dir() and Path(name).resolve() == output_dir.resolve():
        raise FileExistsError(f"{output_dir} holds the model itself. Choose another folder.")
    source, processor = _load(name)
    kind = str(source.export_kind)
    samples = None if settings.evaluate is None else read_samples(settings.evaluate, source, kind, name)
    videos: VideoProcessor = getattr(processor, "video_processor", processor)
    texts = None if processor is videos else processor
    as_saved = processor
    if processor is None:
        _check_without_videos(name, settings)
        # torch's own format keeps the comparisons of lengths that a trace makes, and refuses shorter ones than these.
        inputs, ids = drawn_features(source.config, is_fixed=settings.format == "pt2"), None
    else:
        _check_size(source.config, settings.size)
        fix_size(videos, settings.frames, settings.size)
        as_saved = deepcopy(processor)  # a tokenizer remembers how it was called
        inputs, ids = drawn_inputs(videos, texts)
    functions = {function.name: function for function in functions_of(source, kind, inputs, ids)}
    check_output(output_dir, 4 * source.num_parameters())
    clips = _calibration_clips(videos, settings, say)
    with atomic_directory(output_dir) as folder:
        described: dict[str, Function] = {}
        measured: dict[str, Agreement] = {}
        for name_of, function in functions.items():
            say(f"Tracing {name_of} in {', '.join(map(_shape, function.inputs.values()))}")
            file = WRITERS[settings.format](function, folder, _dtype_of(function, settings), clips)
            described[name_of] = Function(file, *function.ports())
        manifest = _describe(name, source, processor, settings, described, folder, len(clips))
        say("Comparing with torch")
        graphs = open_graphs(folder, manifest, is_own=True)
        for name_of, function in functions.items():
            found = compare(function, graphs[name_of])
            check(name_of, found, BOUNDS[_dtype_of(function, settings)])
            measured |= {f"{name_of}.{output}": entry for output, entry in found.items()}
        if kind == "captioner" and settings.dtype == "float32":
            _compare_captions(source, functions[VIDEO].inputs, ExportedCaptioner(source.config, manifest, graphs))
        scores = {} if samples is None else score(samples, functions, graphs, videos, texts, say)
        _save_settings(source, as_saved, folder)
        manifest = replace(manifest, files=_files_of(folder), agreement=measured, scores=scores)
        atomic_write_text(folder / EXPORT_FILE, manifest.to_json())
        _write_card(folder, name, manifest, source)
    return manifest


def _check_size(config: Any, size: int | None) -> None:
    patch = getattr(getattr(config, "vision_config", config), "patch_size", None)
    if size is not None and patch is not None and size % patch:
        raise ValueError(f"size={size} is not a multiple of the patch size {patch}. Choose another --size.")


def _check_without_videos(name: str, settings: Settings) -> None:
    if settings.dtype == "int8":
        raise ValueError(f"{name} reads features, and int8 is calibrated on videos. Choose another --dtype.")
    for option, value in (("frames", settings.frames), ("size", settings.size)):
        if value is not None:
            raise ValueError(f"{name} reads features of another model, and no videos. Leave out --{option}.")


def _compare_captions(source: Any, clips: Mapping[str, torch.Tensor], exported: ExportedCaptioner) -> None:
    """Refuse an export that writes other captions than torch, by the best token each time."""
    exported.generation_config = source.generation_config
    expected, got = (model.generate(*clips.values(), num_beams=1, do_sample=False) for model in (source, exported))
    if not torch.equal(expected, got):
        raise ParityError("The exported model writes other captions of drawn clips than torch. Nothing was written.")


def _calibration_clips(processor: VideoProcessor, settings: Settings, say: Callable[[str], object]) -> Clips:
    videos = settings.calibrate
    if not videos:
        return []
    if (number := len(videos)) > CALIBRATION:
        say(f"Of {number} videos of calibration, {CALIBRATION} are taken, evenly over the list")
        videos = tuple(videos[place * number // CALIBRATION] for place in range(CALIBRATION))
    rows = [{"video": video} for video in videos]
    clips = read_clips(processor, rows, "Reading clips of calibration", say)
    return [[pixels.numpy() for pixels in inputs.values()] for _, inputs in clips]


def _dtype_of(function: Traceable, settings: Settings) -> str:
    """Return the number type of a function's weights: of int8 the video tower alone, as no text calibrates."""
    return "float32" if settings.dtype == "int8" and function.name != VIDEO else settings.dtype


def _load(name: str) -> tuple[VideoPreTrainedModel, Any]:
    """Load a model in float32 on the CPU, and its processor: of video and text, of videos, or None."""
    if is_exported(name):
        raise ValueError(f"{name} is exported already. Give the folder that it was exported from.")
    config = load_pretrained(AutoConfig, name)
    family, architecture = FAMILIES.get(config.model_type), (config.architectures or [""])[0]
    if family is None:
        raise ValueError(f"{name} is of the family {config.model_type}, none of this package: {', '.join(FAMILIES)}.")
    classes = {model_class.__name__: model_class for model_class in family.models.values()}
    model_class = classes.get(architecture)
    if model_class is None or model_class.export_kind not in KINDS:
        raise ValueError(
            f"{name} holds {with_article(architecture or config.model_type)}, which is not exported. Give an encoder, "
            "a classifier, a model of video and text or of captions, or an ActionFormer."
        )
    model = load_strict(model_class, name).float().eval()
    assert isinstance(model, VideoPreTrainedModel)
    if model.export_kind == "localizer":
        return model, None
    return model, load_pretrained(AutoProcessor if family.processor_name else AutoVideoProcessor, name)


def _describe(
    name: str,
    source: PreTrainedModel,
    processor: Any,
    settings: Settings,
    functions: Mapping[str, Function],
    folder: Path,
    clips: int,
) -> Manifest:
    """Describe an export whose folder holds the graphs and nothing else."""
    video_processor, embeddings = getattr(processor, "video_processor", processor), None
    if processor is not None and len(video_processor.branches) == 1 and settings.dtype != "int8":
        encoder: Any = source  # what AutoModel loads
        if isinstance(source, VideoClassifier):
            encoder = source.encoder
        elif source.export_kind == "captioner":
            encoder = load_strict(AutoModel, name).float()
        parts = (encoder, video_processor, getattr(processor, "tokenizer", None))
        embeddings = {"fingerprint": fingerprint(*parts), "facts": json_sha256(facts(*parts))}
    return Manifest(
        settings.format,
        settings.dtype,
        type(source).__name__,
        functions,
        {},
        internvideo_hf.__version__,
        source.num_parameters(),
        tensors_sha256(source.state_dict()),
        files_sha256(folder, ("*",)),
        embeddings,
        cosine_scale(source).item(),
        calibration={"clips": clips} if settings.dtype == "int8" else None,
    )


def _save_settings(source: PreTrainedModel, processor: Any, folder: Path) -> None:
    """Save configuration and processor as those of any model."""
    source.config.dtype = torch.float32  # of inputs and outputs
    source.config.architectures = [type(source).__name__]
    if getattr(source.config, "adapters_only", False):
        source.config.adapters_only = False
    source.config.save_pretrained(folder)
    if source.can_generate():
        known(source.generation_config).save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)


def _files_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name not in UNLISTED
    }


def _write_card(folder: Path, name: str, manifest: Manifest, source: PreTrainedModel) -> None:
    facts = [
        f"{output}: cosine {found.cosine:.6f}, largest difference {found.difference:.2g} (largest value "
        f"{found.scale:.2g})"
        for output, found in manifest.agreement.items()
    ]
    scores = [
        f"{name}: {found.after:.1f} %, in torch {found.before:.1f} % ({found.videos} videos)"
        for name, found in manifest.scores.items()
    ]
    write_card(
        folder,
        f"{Path(name).name}, exported",
        family=source.config.model_type,
        provenance=f"Weights of {Path(name).name} in {manifest.dtype}, as {manifest.format}, written by `internvideo "
        "export`. Every command of internvideo-hf takes the folder as it takes any model's.",
        sections={
            "Agreement with torch in float32, on drawn inputs": facts,
            **({"Scores": scores} if scores else {}),
            "License": "That of the model.",
        },
    )


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape[1:]))
