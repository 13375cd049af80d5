"""The one error that everything about checkpoint files raises."""


class CheckpointError(ValueError):
    """A checkpoint file cannot be read safely, is of another kind, or does not fit its model tensor by tensor."""
