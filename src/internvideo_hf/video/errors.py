"""The one error that every failure to get frames out of a source is turned into."""


class VideoDecodeError(ValueError):
    """The asked frames cannot be had from this source.

    Args:
        source: The path, the URL, or a short description such as `"<1234 bytes>"`.
        cause: What is wrong, as a clause without a full stop.
        advice: What can be done about it, as a full sentence.
    """

    def __init__(self, source: str, cause: str | None = None, advice: str | None = None):
        self.source = source
        self.cause = cause
        self.advice = advice
        # A DataLoader raises a worker's error again from its message alone, so that must do, too.
        super().__init__(source if cause is None else f"{source}: {cause}. {advice}")

    def __reduce__(self):
        # `Exception` pickles its message only.
        return type(self), (self.source, self.cause, self.advice)
