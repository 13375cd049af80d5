"""What the frozen trunks of the fused model make of clips, kept on disk: later epochs neither run them nor decode."""

import errno
import shutil
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.samples import PIXELS, Row, Sample
from internvideo_hf.models.internvideo.adapters_internvideo import fingerprint
from internvideo_hf.models.internvideo.modeling_internvideo import InternVideoModel
from internvideo_hf.utils.files import atomic_write
from internvideo_hf.utils.fingerprints import json_sha256


class FeatureCache(Dataset):
    """Samples of a list of videos, with `backbone_outputs` of the fused model in the place of pixels.

    `fill` computes what is not there yet, and may be stopped and called again. A file is found by its video, the
    settings and the seed of its clip, and the weights of the trunks, so that nothing stale is taken; of videos behind
    addresses, it is taken that they stay the same.

    Args:
        dataset: the clips.
        model: with frozen encoders, on the device that computes.
        folder: for the files, below a folder for these weights and settings. In float32, B and B take 25 MB a clip.
        views: different clips of a video that are drawn, one an epoch, before they come again.
        half: the number type of mixed precision, as training has it; None for none.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        model: InternVideoModel,
        folder: Path,
        views: int = 1,
        half: torch.dtype | None = None,
    ):
        self.dataset = dataset
        self.model = model
        self.views = views
        self.half = half
        exchanges = [list(model.config.exchange_layers), list(model.config.exchange_blocks)]
        weights = fingerprint(model.frozen_state())
        self.folder = Path(folder) / json_sha256([weights, exchanges, str(half), _plain(dataset.settings)])[:32]

    def __getstate__(self) -> dict[str, Any]:
        """All but the model, which workers that read have no use for."""
        return {**self.__dict__, "model": None}

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Take the clips of an epoch; after `views` of them, the first again."""
        self.dataset.set_epoch(epoch % self.views)

    def path(self, index: int) -> Path:
        """The file of a row's clip in this epoch."""
        name = json_sha256([_identity(self.dataset.rows[index])[:32], self.dataset.seed_of(index)])
        return self.folder / name[:2] / f"{name}.safetensors"

    def __getitem__(self, index: int) -> Sample:
        """The row's sample, with `backbone_outputs` in the place of pixels.

        Raises:
            FileNotFoundError: if `fill` was not called, or its file was deleted.
        """
        path = self.path(index)
        if not path.is_file():
            sample = self.dataset[index]
            if "failure" in sample:  # a video that cannot be read has no file
                return sample
            raise FileNotFoundError(f"{path} is gone. Start the same command again: it makes what is missing.")
        row, tensors = self.dataset.rows[index], load_file(path)
        count = sum(name.startswith("contexts.") for name in tensors)
        contexts = [tensors[f"contexts.{number}"] for number in range(count)]
        trunk = {"video_tokens": tensors["video_tokens"], "class_token": tensors["class_token"], "contexts": contexts}
        sample = {"backbone_outputs": trunk, "seed": self.dataset.seed_of(index), "video": str(row["video"])}
        return sample | ({} if row.get("label") is None else {"labels": torch.tensor(row["label"])})

    def fill(
        self,
        views: int,
        batch_size: int = 8,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        quiet: bool = False,
    ) -> int:
        """Compute what is not there yet.

        Args:
            views: clips of each video, at most those of the class.
            batch_size: clips that go through the trunks at once.
            workers: processes that decode.
            rank, world_size: of this process; each computes its share.
            quiet: no progress bar.

        Returns:
            Clips that were computed.

        Raises:
            OSError: if the disk lacks room; what is there stays.
            VideoDecodeError, TooManyFailuresError: as of the dataset.
        """
        was_training, done = self.model.training, 0
        self.model.eval()
        for view in range(views):
            self.set_epoch(view)
            missing = [index for index in range(rank, len(self), world_size) if not self.path(index).is_file()]
            loader = DataLoader(
                Subset(self.dataset, missing), batch_size=batch_size, num_workers=workers, collate_fn=list
            )
            with tqdm(total=len(missing), desc=f"Caching clip {view + 1} of {views}", disable=quiet) as bar:
                for first, samples in zip(range(0, len(missing), batch_size), loader, strict=True):
                    indices = missing[first : first + len(samples)]
                    self._keep(indices, samples, left=(views - view) * len(missing) - first)
                    done += len(samples)
                    bar.update(len(samples))
        self.set_epoch(0)
        self.model.train(was_training)
        return done

    @torch.no_grad()
    def _keep(self, indices: list[int], samples: list[Sample], left: int) -> None:
        read = [(index, sample) for index, sample in zip(indices, samples, strict=True) if "failure" not in sample]
        if not read:
            return
        batch = VideoCollator(targets=())([sample for _, sample in read])
        pixels = {name: batch[name].to(self.model.device) for name in batch if name.endswith(PIXELS)}
        mixed = nullcontext() if self.half is None else torch.autocast(self.model.device.type, self.half)
        with mixed:
            trunk = self.model.encode_backbones(**pixels)
        tensors = {"video_tokens": trunk.video_tokens, "class_token": trunk.class_token}
        tensors |= {f"contexts.{number}": context for number, context in enumerate(trunk.contexts)}
        for place, (index, _) in enumerate(read):
            own = {name: tensor[place].cpu().contiguous() for name, tensor in tensors.items()}
            path = self.path(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            if place == 0:
                self._check_room(left * sum(tensor.nbytes for tensor in own.values()))
            atomic_write(path, partial(save_file, own))

    def _check_room(self, needed: int) -> None:
        if (free := shutil.disk_usage(self.folder).free) < needed:
            raise OSError(
                errno.ENOSPC,
                f"{self.folder} has {free / 1e9:,.1f} GB free, and what is still to be kept needs {needed / 1e9:,.1f} "
                "GB. Make room, name a folder elsewhere by data.trunk_cache.folder, or set data.trunk_cache=null",
            )


def _identity(row: Row) -> list[Any]:
    """What tells a row's clip from all others: its place, and the state of its file."""
    path = Path(row["video"])
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return [str(row["video"]), row.get("start"), row.get("end"), states]


def _plain(settings: Any) -> Any:
    """Settings of samples as JSON holds them, processors as what they save."""
    if hasattr(settings, "to_dict"):
        return settings.to_dict()
    if is_dataclass(settings):
        return {name: _plain(getattr(settings, name)) for name in (entry.name for entry in fields(settings))}
    if isinstance(settings, dict):
        return {name: _plain(value) for name, value in settings.items()}
    return settings
