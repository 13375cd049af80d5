"""Pixels of annotated frames: images that were extracted before, or frames of Ego4D's videos."""

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from internvideo_hf.data.ego4d import check_uid, find_footage
from internvideo_hf.data.failures import one_video
from internvideo_hf.tasks.object_detection.annotations import Frame
from internvideo_hf.video import VideoReader

_ROOTS = ("", "pre_pnr_post_frames")
_SUFFIXES = (".jpg", ".jpeg", ".png")


class FrameFolder:
    """Reads annotated frames.

    An image comes first, `VIDEO/CLIP/FRAME.jpg` or `VIDEO/FRAME.jpg` (also .jpeg and .png, and below
    `pre_pnr_post_frames`), with CLIP the clip_id or clip_uid and FRAME the number in the whole video. Otherwise the
    frame is decoded, from the exported clip or from the whole video, see `internvideo_hf.data.ego4d.find_footage`.
    Videos that stay open make rising frames of one file fast; frames in any order are faster as images.

    Args:
        folder: of the images, or of Ego4D's downloader.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._reader: tuple[Path, VideoReader] | None = None

    def read(self, frame: Frame) -> NDArray[np.uint8]:
        """Return the pixels of a frame, uint8 `(height, width, 3)`, RGB.

        Args:
            frame: an annotated frame.

        Raises:
            VideoDecodeError: if there is no such file, or it cannot be read.
        """
        with one_video(frame.name):
            path, number = self._find(frame)
            if number is None:
                with Image.open(path) as content:
                    return np.array(content.convert("RGB"))
            if self._reader is None or self._reader[0] != path:
                self.close()
                self._reader = path, VideoReader(path)
            reader = self._reader[1]
            if number >= reader.num_frames:
                raise ValueError(
                    f"frame {number} of {path} is asked for, which has {reader.num_frames}. Check that the "
                    "annotations and the videos are of one version"
                )
            pixels: NDArray[np.uint8] = reader.read([number])[0]
            return pixels

    def file_of(self, frame: Frame) -> Path:
        """Return the file that shows a frame: an image or a video.

        Args:
            frame: an annotated frame.

        Raises:
            VideoDecodeError: if there is none.
        """
        with one_video(frame.name):
            return self._find(frame)[0]

    def close(self) -> None:
        """Close the video that is open."""
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None

    def _find(self, frame: Frame) -> tuple[Path, int | None]:
        """Return the file that shows a frame, and the number of the frame in it; None of an image."""
        if (image := self._image(frame)) is not None:
            return image, None
        footage = find_footage(self.folder, frame.clip if frame.clip_number is not None else None, frame.video)
        number = frame.clip_number if footage.is_clip else frame.number
        assert number is not None  # a clip is looked for only where it is known
        return footage.path, number

    def _image(self, frame: Frame) -> Path | None:
        """Return the image of a frame, if there is one."""
        if frame.file is not None:
            named = PurePosixPath(frame.file)
            if named.is_absolute() or ".." in named.parts:
                raise ValueError(f"{frame.file} is outside the folder of frames. Name files below it")
            path = self.folder / named
            if not path.is_file():
                raise FileNotFoundError(f"there is no {path}. Set data.frames.folder to the folder of the images")
            return path
        video = check_uid(frame.video)
        owners = [f"{video}/{check_uid(clip)}" for clip in (frame.clip_id, frame.clip) if clip is not None]
        for root in _ROOTS:
            for owner in (*owners, video):
                for suffix in _SUFFIXES:
                    path = self.folder / root / owner / f"{frame.number}{suffix}"
                    if path.is_file():
                        return path
        return None
