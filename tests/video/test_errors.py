"""The error of unreadable videos."""

import pickle

from internvideo_hf.video.reader import VideoDecodeError


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(VideoDecodeError("a.mp4", "it is cut off", "Copy it again.")))
    assert (error.source, error.cause, error.advice) == ("a.mp4", "it is cut off", "Copy it again.")
    assert str(error) == "a.mp4: it is cut off. Copy it again."
