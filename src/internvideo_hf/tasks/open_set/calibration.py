"""Fitting of a scorer to known videos: `internvideo calibrate`."""

from pathlib import Path
from typing import Any

import torch

from internvideo_hf.checkpoints.model_names import DEMO_MODELS
from internvideo_hf.data.contents import list_sha256
from internvideo_hf.data.folders import check_some_exist
from internvideo_hf.data.records import list_path
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.embedder import pixel_settings
from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.inference.open_set.observer import scorer_for
from internvideo_hf.inference.open_set.scorer import FOLDER, SETTINGS
from internvideo_hf.inference.rows import video_name
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.tasks.labelled_clips import read_labelled_clips
from internvideo_hf.tasks.protocol import DataSettings
from internvideo_hf.utils.files import check_output
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.journal import delete_parts
from internvideo_hf.utils.locks import lock_file


def calibrate(
    model: str | Path,
    validation: str | Path,
    out: str | Path | None = None,
    *,
    method: str = "max_softmax",
    accepted: float = 0.95,
    rule: str = "accepted",
    data_root: str | Path | None = None,
    views: tuple[int, int] | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    max_damaged: float = 0.01,
    quiet: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Fit a scorer of unknown videos, and its threshold, to known videos; continues after an interruption.

    Args:
        model: a classifier's folder, or its name on the Hub.
        validation: a list of videos and labels, or a folder of clips by class, that the model was not trained on.
        out: the folder of the scorer, replaced if it holds one; "open_set" in the model's folder if None.
        method: a name in `internvideo_hf.inference.open_set.methods.METHODS`.
        accepted: fraction of known videos that are to be taken as known, above 0, at most 1.
        rule: as of `internvideo_hf.inference.open_set.thresholds.find_threshold`.
        data_root: the folder that relative paths in the list start from; the list's own if None.
        views: clips and crops of each video; those of the released test if None, or as the processor is configured.
        batch_size: views per forward pass.
        workers: decoding processes; one for each core, at most 8, if None; 0 decodes in this process.
        device: where the model runs; the accelerator if there is one.
        dtype: number type of the model's weights, such as "float16"; as saved if None.
        max_damaged: fraction of the videos that may be unreadable, in [0, 1).
        quiet: no progress bars.
        options: of the method.

    Returns:
        `scorer` (its folder), `method`, `threshold`, `accepted` (the fraction that is at or below it), `videos`,
        `views`, `top-1` in percent, and `damaged` with a cause each.

    Raises:
        ValueError: if the model chooses none of several classes, the list does not suit it, the method needs more, or
            the scorer of a bundled model would be replaced.
        FileNotFoundError: if no video of the list exists.
        TooManyFailuresError: if more than `max_damaged` of the videos are unreadable.
    """
    settings = RunSettings(batch_size, workers, max_damaged, quiet)
    num_clips, num_crops = views or (None, None)
    classifier = Classifier.load(model, num_clips, num_crops, device, dtype)
    scorer, observer = scorer_for(classifier, method, accepted=accepted, rule=rule, **options)
    subject, folder = observer.subject, _folder(out, classifier.name)
    file, root = str(Path(validation).absolute()), Path(validation).parent if data_root is None else Path(data_root)
    rows = read_labelled_clips(DataSettings(file), root, classifier.name, classifier.classes)
    check_some_exist([row["video"] for row in rows])
    facts = [
        list_sha256(list_path(root, file)),
        [video_name(row) for row in rows],
        [subject.fingerprint, subject.views, classifier.model.dtype, pixel_settings(classifier.processor)],
        [method, scorer.method.options(), batch_size],
    ]
    folder.parent.mkdir(parents=True, exist_ok=True)
    parts = folder.with_name(f".{folder.name}.parts") / json_sha256(facts)[:12]
    with lock_file(folder):
        seen, kept, causes = observer.observe(rows, settings, parts, f"Classifying by {Path(classifier.name).name}")
        try:
            scorer.fit(seen, subject)
        except ValueError:  # the list does not suit the method: what the model said of it serves no other run
            delete_parts(parts.parent)
            raise
        scorer.save(folder)
    delete_parts(parts.parent)
    assert seen.logits is not None and seen.labels is not None
    answers = seen.logits.double().softmax(dim=-1).mean(dim=1).numpy()
    below = float((scorer.known_scores <= (scorer.threshold or 0.0)).mean())
    return {
        "scorer": str(folder),
        "method": method,
        "threshold": scorer.threshold,
        "accepted": below,
        "videos": len(kept),
        "views": [classifier.num_clips, classifier.num_crops],
        "top-1": top_k_accuracies(answers, seen.labels.numpy())["top-1"],
        "damaged": [{"video": video, "cause": cause} for video, cause in causes.items()],
    }


def _folder(out: str | Path | None, model: str) -> Path:
    """Return the folder of the scorer, after a check that it may be written."""
    if out is None and not Path(model).is_dir():
        raise ValueError(f"{model} is on the Hub, where nothing can be kept beside it. Give a folder by out (--out).")
    if out is None and Path(model).resolve() in DEMO_MODELS.values():
        raise ValueError(
            f"{Path(model).name} is a model of the package, which keeps the scorer that came with it. Give a "
            "folder by out (--out)."
        )
    folder = Path(model) / FOLDER if out is None else Path(out)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Give the name of a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SETTINGS).is_file():
        raise FileExistsError(f"{folder} holds other files than a scorer. Choose another folder.")
    check_output(folder)
    return folder
