"""The error of every failure to get frames out of a source."""

from internvideo_hf.utils.names import printable


class VideoDecodeError(ValueError):
    """Frames cannot be read from a source.

    Args:
        source: the path, the URL, or a short description such as `"<1234 bytes>"`.
        cause: what is wrong, as a clause without a full stop.
        advice: what to do about it, as a full sentence.
    """

    def __init__(self, source: str, cause: str | None = None, advice: str | None = None):
        self.source = source
        self.cause = cause
        self.advice = advice
        # A DataLoader raises a worker's error again from its message alone, so that must do, too.
        super().__init__(source if cause is None else printable(f"{source}: {cause}. {advice}"))

    def __reduce__(self) -> tuple[type, tuple[str | None, ...]]:
        # `Exception` pickles its message only.
        return type(self), (self.source, self.cause, self.advice)
