"""Map-style dataset: rows of a manifest as training and evaluation samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from internvideo_hf.data.failures import FailureLog, one_video
from internvideo_hf.data.samples import Row, Sample, SampleSettings, make_sample, sample_seed
from internvideo_hf.utils.names import check_name
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.members import member_name
from internvideo_hf.video.sources import encoded_video

ON_ERROR = ("raise", "skip")
NO_VIDEO = {"bytes": None, "path": None}
"""What `datasets.Video` makes of a row without a video."""


def _undecoded(rows: Sequence[Row]) -> Sequence[Row]:
    """Return rows without the decoder of `datasets`, which would decode each video with torchcodec."""
    feature = getattr(rows, "features", None)
    video: Any = feature.get("video") if isinstance(feature, Mapping) else None
    if not getattr(video, "decode", False):
        return rows
    undecoded: Sequence[Row] = rows.cast_column("video", type(video)(decode=False))  # type: ignore[attr-defined]
    return undecoded


def check_policy(on_error: str, failures: FailureLog | None) -> None:
    """Refuse an unknown policy, and one that would drop videos without a record.

    Raises:
        ValueError: if the policy is refused.
    """
    check_name(on_error, ON_ERROR, "on_error")
    if (on_error == "skip") != (failures is not None):
        raise ValueError(
            f"on_error={on_error!r} came with failures={failures!r}, expected a FailureLog with 'skip' and none with "
            "'raise'; no video is left out without a trace"
        )


class VideoDataset(Dataset[Sample]):
    """Samples of the rows of a manifest, decoded on access, in the worker that asks.

    A sample depends on `seed`, the epoch and its index alone: any number of workers and processes gives the same bits.
    No reader is kept, so workers may be forked or spawned.

    Args:
        rows: a `datasets.Dataset` from `load_manifest`, one with a column `video` of the feature `Video`, whose bytes
            are decoded where they are, or a list of such dicts; `label` and `caption` where they are wanted.
        settings: how a row becomes a sample; for a model of several inputs, by their names.
        seed: at least 0.
        on_error: "raise", or "skip": a video that cannot be read gives `{"failure": ...}`, which `VideoCollator`
            leaves out, so that its batch is smaller. It never becomes another video.
        failures: with "skip", the log that ends the run when too many fail.
        raw: leave normalization to `finish_batch`, where it is the last step of a view, see `make_sample`; views of a
            processor stay normalized.

    Raises:
        ValueError: if there are no rows, or the policy is unknown.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        settings: SampleSettings | Mapping[str, SampleSettings],
        *,
        seed: int = 0,
        on_error: str = "raise",
        failures: FailureLog | None = None,
        raw: bool = False,
    ):
        check_policy(on_error, failures)
        if len(rows) == 0:
            raise ValueError("rows: got none, expected at least one; check the manifest")
        self.rows = _undecoded(rows)
        self.settings = settings
        self.seed = seed
        self.failures = failures
        self.raw = raw
        # In shared memory: workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Change the draws: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self._epoch.fill_(epoch)

    def seed_of(self, index: int) -> int:
        """Return the seed of a row's sample in this epoch; the row, the settings and it make the sample."""
        return sample_seed(self.seed, int(self._epoch), index)

    def make(self, row: Row, seed: int) -> Sample:
        """Make the sample of a row; a subclass may make another kind.

        Args:
            row: of the list.
            seed: see `seed_of`.
        """
        return make_sample(row, self.settings, seed, raw=self.raw)

    def __getitem__(self, index: int) -> Sample:
        """Make the sample of a row; see `make_sample`.

        Raises:
            IndexError: if there is no such row.
            VideoDecodeError: if the video cannot be read and the policy is "raise".
            TooManyFailuresError: if the policy is "skip" and too many cannot be read.
        """
        if not 0 <= index < len(self.rows):
            raise IndexError(f"index: got {index}, expected 0 to {len(self.rows) - 1}")
        index, row = int(index), self.rows[int(index)]
        name, encoded = str(row["video"]), encoded_video(row["video"])
        if encoded is not None or row["video"] is None:
            content, path = (encoded["bytes"], encoded["path"]) if encoded is not None else (None, None)
            # Names in a data set may be equal, such as clip.mp4; rows with bytes are told apart by their numbers.
            name = (content is None and path) or member_name("", index, path)
            row = {**row, "video": {"bytes": content, "path": name if content or path else None}}
        try:
            with one_video(name):
                if row["video"] == NO_VIDEO:
                    raise VideoDecodeError(name, "the row has neither bytes nor a path", "Leave it out.")
                return self.make(row, self.seed_of(index))
        except VideoDecodeError as error:
            return self.fail(index, error)

    def fail(self, index: int, error: VideoDecodeError) -> Sample:
        """Return what stands for a row whose video cannot be read.

        Args:
            index: of the row.
            error: why it cannot.

        Raises:
            VideoDecodeError: the error, if the policy is "raise".
            TooManyFailuresError: if the policy is "skip" and too many cannot be read.
        """
        if self.failures is None:
            raise error
        self.failures.add(index, error, len(self.rows))
        return {"failure": str(error)}
