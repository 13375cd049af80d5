"""A small classifier of three classes, and videos of them and of others."""

from pathlib import Path

from tasks import small_classifiers
from video.clips import write_video

from internvideo_hf import UniFormerV2ForOpenSetClassification, UniFormerV2ForVideoClassification

CLASSES = ["runs", "jumps", "sits"]
HERE = {"workers": 0, "device": "cpu", "quiet": True}


def write_classifier(folder: Path, *, is_evidential: bool = False, seed: int = 0, **settings) -> Path:
    kind = UniFormerV2ForOpenSetClassification if is_evidential else UniFormerV2ForVideoClassification
    classes = dict(enumerate(CLASSES))
    exact = {"global_dropout": 0.0, "classifier_dropout": 0.0}
    return small_classifiers.write_classifier(folder, kind=kind, seed=seed, id2label=classes, **exact, **settings)


def write_lists(root: Path) -> Path:
    """Write val.csv and test.csv of known videos, and unknown.csv."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(12):
        write_video(root / f"clip{number:02d}.mp4", num_frames=8 + number)
    lines = [f"clip{number:02d}.mp4,{CLASSES[number % 3]}\n" for number in range(9)]
    (root / "val.csv").write_text("".join(lines[:6]))
    (root / "test.csv").write_text("".join(lines[6:]))
    (root / "unknown.csv").write_text("clip09.mp4,swims\nclip10.mp4,flies\nclip11.mp4,swims\n")
    return root
