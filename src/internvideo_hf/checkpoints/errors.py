"""The error of reading and converting checkpoint files."""


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read safely, is of another kind, or does not fit its model exactly."""
