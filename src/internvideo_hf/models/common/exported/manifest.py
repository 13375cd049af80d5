"""`export.json`: what an exported folder holds, and the check that it holds nothing else."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from internvideo_hf.utils.fingerprints import file_sha256, json_sha256
from internvideo_hf.utils.names import check_name, is_repository_name, lookup, with_article

EXPORT_FILE = "export.json"
VERSION = 1
"""Of the layout of exported folders."""
FORMATS = {"onnx": "onnxruntime", "openvino": "openvino", "pt2": "torch"}
"""Format -> the package that runs it."""
NUMBERS = {
    "onnx": ("float32", "float16", "int8"),
    "openvino": ("float32", "bfloat16", "float16", "int8"),
    "pt2": ("float32", "bfloat16", "float16"),
}
"""Format -> number types of its weights; "int8" of the video tower alone."""
UNLISTED = ("README.md", EXPORT_FILE)
"""Files of an exported folder that `Manifest.files` leaves out."""
_LARGEST = 1 << 20  # bytes of the file
_AGAIN = "Export the model again."
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
BATCH = "batch"
"""Name of the axis of clips or texts."""


@dataclass(frozen=True)
class Port:
    """An input or output of a function.

    Args:
        shape: a number for each fixed axis, a name for any other, such as "frames", or "2*frames" for multiples of 2.
        dtype: "float32" or "int64".
    """

    shape: tuple[int | str, ...]
    dtype: str = "float32"

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Return whether a tensor of a shape fits."""
        return len(shape) == len(self.shape) and all(
            length % _step(axis) == 0 if isinstance(axis, str) else length == axis
            for axis, length in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Function:
    """A function of the model, which a runtime computes.

    Args:
        file: its graph, a name in the folder.
        inputs: by name, in the order of the graph.
        outputs: the same.
    """

    file: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]


@dataclass(frozen=True)
class Agreement:
    """How near an output comes to that of torch in float32.

    Args:
        difference: the largest one.
        scale: the largest absolute value of torch's.
        cosine: the smallest one of all clips or texts.
    """

    difference: float
    scale: float
    cosine: float


@dataclass(frozen=True)
class Score:
    """What a model and its export reach on the same videos.

    Args:
        before: by torch in float32, in percent.
        after: by the export, in percent.
        videos: their number.
    """

    before: float
    after: float
    videos: int


@dataclass(frozen=True)
class Manifest:
    """What an exported folder holds.

    Args:
        format: a name in `FORMATS`.
        dtype: number type of the weights, of `NUMBERS`; inputs and outputs are float32 in any case.
        architecture: class of the model.
        functions: by name: "video", "text", "caption", "head".
        files: name -> bytes and SHA-256, of all files but this one and the card.
        package: version of this package that wrote it.
        parameters: of the model.
        weights: hash of the tensors of the model that was exported.
        graphs: hash of the files of the functions.
        embeddings: "fingerprint" of its embeddings and "facts", the hash of what else affects them, where those of the
            export differ by rounding alone; None otherwise.
        cosine_scale: learned factor of the cosines, of a model of video and text.
        agreement: output, such as "video.logits" -> how near it comes to torch's.
        calibration: of int8: "clips", on how many the ranges of activations were measured.
        scores: such as "top-1" -> what it was in torch, and is now, where the export was given a list.
        version: of the layout.
    """

    format: str
    dtype: str
    architecture: str
    functions: Mapping[str, Function]
    files: Mapping[str, Mapping[str, Any]]
    package: str
    parameters: int
    weights: str
    graphs: str
    embeddings: Mapping[str, str] | None = None
    cosine_scale: float = 1.0
    agreement: Mapping[str, Agreement] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)
    version: int = VERSION

    @property
    def identity(self) -> str:
        """A hash of what its answers depend on: the model's tensors, for any format of floating-point numbers.

        Of int8 it is that of the graphs, as calibration on other videos gives other answers.
        """
        return self.weights if self.dtype != "int8" else json_sha256([self.format, self.dtype, self.graphs])

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps(asdict(self), indent=2) + "\n"


def _step(axis: str) -> int:
    """Return the number of whose multiples an axis is."""
    factor, _, _ = axis.rpartition("*")
    return int(factor or 1)


def is_exported(source: Any) -> bool:
    """Return whether a model's source is a folder that `internvideo export` wrote.

    Args:
        source: a folder, or a name on the Hub.
    """
    return isinstance(source, str | Path) and (Path(source) / EXPORT_FILE).is_file()


def download_export(source: Any, options: Mapping[str, Any]) -> Path | None:
    """Download an exported folder from the Hub, and return where it is; None if there is none.

    Args:
        source: a name on the Hub; of anything else there is none.
        options: of `from_pretrained`, such as `revision`.
    """
    name = str(source)
    if not is_repository_name(name) or Path(name).exists():
        return None
    where = {
        key: value
        for key in ("revision", "cache_dir", "token", "local_files_only")
        if (value := options.get(key)) is not None
    }
    try:
        folder = Path(hf_hub_download(name, EXPORT_FILE, **where)).parent
    except OSError:  # that there is no model, is said already
        return None
    where["revision"] = folder.name  # the commit
    for file in _load(folder)["files"]:
        if _NAME.fullmatch(file):
            hf_hub_download(name, file, **where)
    return folder


def read_manifest(folder: str | Path) -> Manifest:
    """Read `export.json`, and check that the folder holds the files that it lists, and no others.

    Args:
        folder: that `internvideo export` wrote.

    Raises:
        ValueError: if it is damaged, of another version, or holds other files.
    """
    folder = Path(folder)
    content = _load(folder)
    file = folder / EXPORT_FILE
    if content.get("version") != VERSION:
        raise ValueError(
            f"{file} is of version {content.get('version')} of the layout, expected {VERSION}. Export the model again "
            "with this version of internvideo-hf."
        )
    try:
        manifest = _parse(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {str(error) or type(error).__name__}. {_AGAIN}") from error
    _check_files(folder, manifest)
    return manifest


def _load(folder: Path) -> dict[str, Any]:
    """Return the content of the file, checked to be an object with a table of files."""
    file = folder / EXPORT_FILE
    if file.stat().st_size > _LARGEST:
        raise ValueError(f"{file} has {file.stat().st_size} bytes, too many for a list of files. {_AGAIN}")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}). {_AGAIN}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a JSON object, got {with_article(type(content).__name__)}. {_AGAIN}")
    if not isinstance(content.get("files"), dict):
        raise ValueError(f"{file} is damaged: it lists no files. {_AGAIN}")
    return content


def _parse(content: dict[str, Any]) -> Manifest:
    check_name(content["dtype"], lookup(NUMBERS, content["format"], "format"), "dtype")
    functions = {str(name): _function(entry) for name, entry in content["functions"].items()}
    files = {
        name: {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])}
        for name, entry in content["files"].items()
    }
    for name in [*files, *(function.file for function in functions.values())]:
        if not _NAME.fullmatch(name) or name not in files:
            raise ValueError(f"{name!r} is not the name of a listed file beside it")
    agreement = {str(name): Agreement(**values) for name, values in content["agreement"].items()}
    scores = {str(name): Score(**values) for name, values in content.get("scores", {}).items()}
    known = {entry: content[entry] for entry in Manifest.__dataclass_fields__ if entry in content}
    return Manifest(**known | {"functions": functions, "files": files, "agreement": agreement, "scores": scores})


def _function(entry: Mapping[str, Any]) -> Function:
    inputs, outputs = (
        {str(name): Port(tuple(port["shape"]), str(port["dtype"])) for name, port in entry[kind].items()}
        for kind in ("inputs", "outputs")
    )
    for name, port in inputs.items():
        if any(_step(axis) < 1 for axis in port.shape if isinstance(axis, str)):
            raise ValueError(f"{name} has an axis of a multiple below 1")
    return Function(str(entry["file"]), inputs, outputs)


def _check_files(folder: Path, manifest: Manifest) -> None:
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if foreign := sorted(there - {*manifest.files, *UNLISTED}):
        raise ValueError(
            f"{folder} holds {foreign[0]}, which {EXPORT_FILE} does not list. An exported folder holds what the "
            "export wrote and nothing else: remove it, or export the model again."
        )
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{folder} lacks {name}. Copy the folder again, or export the model again.")
        if path.stat().st_size != entry["bytes"] or file_sha256(path) != entry["sha256"]:
            raise ValueError(f"{path} is not the file that was exported. Copy it again, or export the model again.")
