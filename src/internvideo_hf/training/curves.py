"""Plots of a training run: loss, metrics and learning rate over steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from internvideo_hf.utils.files import atomic_write


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot the log of a run as a PNG with panels for losses, metrics and learning rate.

    Args:
        history: `TrainerState.log_history`: values by name, with their `step`.
        path: file to write.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Curves need matplotlib: pip install 'internvideo-hf[train]'.") from error

    keys = dict.fromkeys(key for entry in history for key in entry)
    losses = [key for key in keys if key.endswith("loss") and key != "train_loss"]
    metrics = [key for key in keys if key.startswith("eval_") and key not in losses and not _is_cost(key)]
    panels = [("loss", losses), ("metric (validation)", metrics), ("learning rate", ["learning_rate"])]
    panels = [(title, names) for title, names in panels if any(name in keys for name in names)]
    if not panels:
        return
    # Not pyplot's figure, which would need a display.
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for key in names:
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            axes.plot(*zip(*points, strict=True), label=key, marker="." if len(points) < 20 else None)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    atomic_write(path, lambda temporary: figure.savefig(temporary, format="png", dpi=100))


def _is_cost(key: str) -> bool:
    return key.endswith(("_runtime", "_per_second", "_time"))
