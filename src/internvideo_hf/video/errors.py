"""The one error that every failure to get frames out of a source is turned into."""


class VideoDecodeError(ValueError):
    """The asked frames cannot be had from this source.

    Args:
        source: The path, the URL, or a short description such as `"<1234 bytes>"`.
        cause: What is wrong, as a clause without a full stop.
        advice: What can be done about it, as a full sentence.
    """

    def __init__(self, source: str, cause: str, advice: str):
        self.source = source
        self.cause = cause
        self.advice = advice
        super().__init__(f"{source}: {cause}. {advice}")

    def __reduce__(self):
        # `Exception` pickles its message only, and a DataLoader worker hands its error over by pickle.
        return type(self), (self.source, self.cause, self.advice)
