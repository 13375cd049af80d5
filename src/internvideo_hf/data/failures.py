"""Log of unreadable videos, which stops a run when they are too many.

Every worker, and every process on the machine or on a shared disk, appends to one file: so the count is right however
the data is loaded, and the trainer needs to know nothing of it.
"""

import json
import os
from pathlib import Path

from internvideo_hf.video.errors import VideoDecodeError


class TooManyFailuresError(RuntimeError):
    """More videos are unreadable than training may leave out."""


class FailureLog:
    """Log of every sample that is left out, a JSON object a line: `index`, `video` and `cause`.

    A sample counts once, in however many epochs it fails. Earlier content of the file stays and does not count.

    Args:
        path: the file; created with its folders if it does not exist.
        max_share: fraction of all samples that may fail, in [0, 1).
        min_failures: failures that are allowed in any case, or one bad file would end a run over 50 videos.

    Raises:
        ValueError: if a number is out of range.
        OSError: if the file cannot be written.
    """

    def __init__(self, path: str | Path, *, max_share: float = 0.01, min_failures: int = 5):
        if not 0 <= max_share < 1 or min_failures < 0:
            raise ValueError(
                f"max_share, min_failures: got {max_share}, {min_failures}, expected a fraction in [0, 1) and at "
                "least 0; the default fraction is 0.01"
            )
        self.path = Path(path)
        self.max_share = max_share
        self.min_failures = min_failures
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._begin = self.path.stat().st_size

    def add(self, index: int | str, error: VideoDecodeError, total: int) -> None:
        """Log a sample that is left out.

        Args:
            index: identifies the sample.
            error: why it cannot be read.
            total: samples in all, of which `max_share` may fail.

        Raises:
            TooManyFailuresError: if more than that have failed now.
        """
        line = json.dumps({"index": index, "video": error.source, "cause": error.cause}) + "\n"
        # One write at the end of the file: lines of several processes do not mix.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
        failed, allowed = len(self.read()), max(self.min_failures, int(self.max_share * total))
        if failed > allowed:
            raise TooManyFailuresError(
                f"{failed} of {total} samples cannot be read, and {allowed} may be left out (max_share="
                f"{self.max_share}). The last is {error} All are listed in {self.path}; `internvideo scan` finds bad "
                "files before training."
            )

    def read(self) -> dict[int | str, dict[str, str]]:
        """Return the failures since the object was made: index -> `video` and `cause`."""
        with self.path.open("rb") as file:
            file.seek(self._begin)
            lines = file.read().split(b"\n")[:-1]  # what follows the last line break is being written
        failures = (json.loads(line) for line in lines)
        return {failure.pop("index"): failure for failure in failures}

    def __len__(self) -> int:
        return len(self.read())
