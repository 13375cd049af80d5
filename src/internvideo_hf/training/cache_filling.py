"""Run a frozen backbone over clips, and write a file for each: by this process, or by several workers.

Batches are those of the list from its beginning, whatever is there already. So a file has the same bits whoever
computes it, and in however many runs.
"""

import errno
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from safetensors.torch import save_file
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.checkpoints.starting import start_from
from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.executors.base import Executor, Refusal
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.data.samples import PIXELS, Row, SampleSettings, make_sample
from internvideo_hf.inference.rows import enter_worker, read_arrays, to_tensors
from internvideo_hf.utils.devices import default_device
from internvideo_hf.utils.files import atomic_write
from internvideo_hf.utils.fingerprints import tensors_sha256
from internvideo_hf.video.errors import VideoDecodeError

STAGE = "cache"  # in the table of failures
SHARD_CLIPS = 32  # at least, where a batch has no more: what a lost worker costs


@runtime_checkable
class FrozenBackbone(Protocol):
    """A model without a head whose frozen part can be run by itself.

    Attributes:
        frozen_argument: argument of `forward` that takes the outputs of the frozen part.
        encoders_frozen: whether training leaves `frozen_state` unchanged.
    """

    frozen_argument: str
    training: bool

    @property
    def encoders_frozen(self) -> bool: ...

    @property
    def device(self) -> torch.device: ...

    def frozen_state(self) -> dict[str, torch.Tensor]:
        """Return the weights of the frozen part."""

    def frozen_facts(self) -> list[Any]:
        """Return what else decides the outputs, as JSON."""

    def frozen_forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the frozen part on a batch; `name.0`, `name.1`, ... are the tensors of a list."""

    def train(self, mode: bool = True) -> Any:
        """Switch to training or evaluation."""


def fingerprint_of(backbone: FrozenBackbone) -> str:
    """Return the hash of the weights of the frozen part.

    Args:
        backbone: the model.
    """
    return f"sha256:{tensors_sha256(backbone.frozen_state())}"


class Clip(NamedTuple):
    """A clip of a video, and its file.

    Attributes:
        row: of the list.
        seed: of its draws.
        path: of the file.
        number: of the row.
        is_missing: whether there was no file when the list was read.
    """

    row: Row
    seed: int
    path: Path
    number: int
    is_missing: bool


Batch = tuple[Clip, ...]
"""Clips of a forward pass, in the order of the list."""


class Shard(NamedTuple):
    """Batches for one worker.

    Attributes:
        batches: one or more.
        settings: number of the samples' settings in `Filling.settings`.
        left: missing clips of this and the following shards.
    """

    batches: tuple[Batch, ...]
    settings: int
    left: int


@dataclass(frozen=True)
class Filling:
    """What a worker needs to know.

    Args:
        fingerprint: of the frozen weights; a worker that loads others refuses.
        load: returns the model on a device; a `partial` of a function of an importable module.
        settings: of the samples of each list.
        dtype: type of mixed precision; None for none.
        timeout: seconds after which a decoder counts as hung; None for no limit.
        threads: of the process that reads the list; sums have other bits with others.
        folder: from which relative paths start.
    """

    fingerprint: str
    load: Callable[[str | None], FrozenBackbone] = field(compare=False)
    settings: tuple[SampleSettings | Mapping[str, SampleSettings], ...] = field(compare=False)
    dtype: torch.dtype | None = field(compare=False)
    timeout: float | None = field(compare=False)
    threads: int = field(compare=False)
    folder: str = field(compare=False)


def load_backbone(
    device: str | None, model_class: type[PreTrainedModel], config: PreTrainedConfig, start: Path | None, seed: int
) -> FrozenBackbone:
    """Load the model that a training starts from, in a worker.

    Args:
        device: where it runs; None for the default.
        model_class: class of the model.
        config: its configuration.
        start: file or folder of its weights; None for random ones.
        seed: of the weights that are random.
    """
    torch.manual_seed(seed)
    model = model_class(config)
    if start is not None:
        model = start_from(model, start)
    model.to(default_device(device))  # type: ignore[arg-type]  # transformers' wrapper hides the signature
    backbone: Any = model.base_model
    return backbone.eval()


def cut(batches: Sequence[Batch], settings: int, left: int) -> list[Shard]:
    """Divide batches into shards.

    Args:
        batches: of a list.
        settings: as of `Shard`.
        left: missing clips of these and later batches.
    """
    shards: list[Shard] = []
    held: list[Batch] = []
    for number, batch in enumerate(batches, 1):
        held.append(batch)
        if sum(map(len, held)) >= SHARD_CLIPS or number == len(batches):
            shards.append(Shard(tuple(held), settings, left))
            left -= sum(clip.is_missing for members in held for clip in members)
            held = []
    return shards


def fill_shard(shard: Shard, filling: Filling, engine: Engine) -> list[tuple[int, VideoDecodeError]] | Refusal:
    """Compute the missing files of a shard; workers run this.

    Args:
        shard: of the list.
        filling: of the run.
        engine: whose worker this is.

    Returns:
        The numbers of the clips that failed, and why; or the error that ends the run.
    """
    try:
        device = enter_worker(engine, filling.folder, filling.threads)
        outcomes = fill_batches(
            shard.batches,
            _backbone(filling, device),
            partial(
                read_arrays, read=partial(read_clip, settings=filling.settings[shard.settings]), folder=filling.folder
            ),
            engine.executor(),
            engine.decoders,
            dtype=filling.dtype,
            timeout=filling.timeout,
            left=shard.left,
        )
        return [(clip.number, error) for clip, error in outcomes if error is not None]
    except Exception as error:
        return Refusal(error)


@lru_cache(maxsize=1)
def _backbone(filling: Filling, device: str | None) -> FrozenBackbone:
    backbone = filling.load(device)
    if (found := fingerprint_of(backbone)) != filling.fingerprint:
        raise ValueError(
            f"A worker finds other frozen weights: their fingerprint is {found[:23]}, that of the run "
            f"{filling.fingerprint[:23]}. Put the same model there on all machines."
        )
    return backbone


def read_clip(
    clip: Clip, settings: SampleSettings | Mapping[str, SampleSettings], *, raw: bool = False
) -> dict[str, Any]:
    """Decode a clip, and return its inputs of the model by name.

    Args:
        clip: of the list.
        settings: of the samples.
        raw: as `raw_processor` of `make_sample`.
    """
    sample = make_sample(clip.row, settings, clip.seed, raw_processor=raw)
    return {name: value for name, value in sample.items() if name.endswith(PIXELS)}


def _can_be_read(clip: Clip, read: Callable[[Clip], Any]) -> bool:
    read(clip)
    return True


def fill_batches(
    batches: Sequence[Batch],
    backbone: FrozenBackbone,
    read: Callable[[Clip], Any],
    executor: Executor,
    decoders: int,
    *,
    dtype: torch.dtype | None,
    timeout: float | None,
    left: int,
) -> Generator[tuple[Clip, VideoDecodeError | None], None, None]:
    """Compute the missing files of batches.

    Args:
        batches: of the list; clips whose files are there are computed again where one beside them is missing, but not
            written.
        backbone: the model, in evaluation mode.
        read: returns the inputs of a clip; a `partial` of a function of an importable module.
        executor: runs it.
        decoders: clips in progress at once.
        dtype: type of mixed precision; None for none.
        timeout: seconds after which a decoder counts as hung; None for no limit.
        left: missing clips of these and later batches.

    Yields:
        Each clip whose file was missing, and why it still is; None if it is written.

    Raises:
        OSError: if there is too little disk space; finished files stay.
    """
    lacking = [{clip.path for clip in batch if not clip.path.is_file()} for batch in batches]
    failed: set[Path] = set()
    # Where a part of a batch is there, mostly a video cannot be read, and for it alone nothing is computed again.
    doubtful = [
        clip
        for batch, paths in zip(batches, lacking, strict=True)
        for clip in batch
        if clip.path in paths and len(paths) < len(batch)
    ]
    for clip, result in executor.map_ordered(
        partial(_can_be_read, read=read), doubtful, decoders, video_of, timeout=timeout
    ):
        if isinstance(result, VideoDecodeError):
            failed.add(clip.path)
            yield clip, result
    todo = [
        ([clip for clip in batch if clip.path not in failed], paths - failed)
        for batch, paths in zip(batches, lacking, strict=True)
        if paths - failed
    ]
    clips = [clip for batch, _ in todo for clip in batch]
    results = executor.map_ordered(read, clips, decoders, video_of, timeout=timeout)
    for batch, paths in todo:
        inputs: list[tuple[Clip, Any]] = []
        for clip in batch:
            _, result = next(results)
            if not isinstance(result, VideoDecodeError):
                inputs.append((clip, to_tensors(result, backbone.device)))
            elif clip.path in paths:
                yield clip, result
        if inputs:
            _write(inputs, paths, backbone, dtype, left)
        left -= len(paths)
        yield from ((clip, None) for clip, _ in inputs if clip.path in paths)


def video_of(clip: Clip) -> str:
    """Return the path or address of a clip's video."""
    return str(clip.row["video"])


@torch.no_grad()
def _write(
    inputs: Sequence[tuple[Clip, Any]],
    paths: set[Path],
    backbone: FrozenBackbone,
    dtype: torch.dtype | None,
    left: int,
) -> None:
    """Run the frozen part on a batch, and write those of its files that are missing."""
    batch = VideoCollator(targets=())([pixels for _, pixels in inputs])
    # Pixels that came from another process lie in memory otherwise, and sums over them would have other bits.
    moved = {name: pixels.contiguous().to(backbone.device) for name, pixels in batch.items()}
    with nullcontext() if dtype is None else torch.autocast(backbone.device.type, dtype):
        outputs = backbone.frozen_forward(**moved)
    is_checked = False
    for place, (clip, _) in enumerate(inputs):
        if clip.path not in paths:
            continue
        tensors = {name: tensor[place].cpu().contiguous() for name, tensor in outputs.items()}
        clip.path.parent.mkdir(parents=True, exist_ok=True)
        if not is_checked:
            _check_room(clip.path.parent.parent, left * sum(tensor.nbytes for tensor in tensors.values()))
            is_checked = True
        atomic_write(clip.path, partial(save_file, tensors))


def _check_room(folder: Path, needed: int) -> None:
    if (free := shutil.disk_usage(folder).free) < needed:
        raise OSError(
            errno.ENOSPC,
            f"{folder} has {free / 1e9:,.1f} GB free, the missing files need {needed / 1e9:,.1f} GB. Free "
            "space, set data.trunk_cache.folder to another disk, or set data.trunk_cache=null",
        )
