"""Fuse two classifiers to the folder of one model."""

from pathlib import Path
from typing import Any

from internvideo_hf.checkpoints.cards import pipeline_snippet, write_card
from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.checkpoints.saving import check_replaceable
from internvideo_hf.models.internvideo.modeling_internvideo import InternVideoForVideoClassification
from internvideo_hf.processing.fused_video_processing import InternVideoFusedVideoProcessor
from internvideo_hf.utils.files import atomic_directory


def fuse_encoders(
    internvideo_mae: str | Path,
    uniformerv2: str | Path,
    output_dir: str | Path,
    *,
    adapters_only: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> InternVideoForVideoClassification:
    """Fuse a masked and a multimodal classifier: write the model, its processor and its card.

    The model's score is the mean of both until training (recipe internvideo/cma_k400) changes the attention between
    them.

    Args:
        internvideo_mae: folder of a classifier, or its name on the Hub.
        uniformerv2: the same, of a classifier of the same classes.
        output_dir: the folder to write, atomically.
        adapters_only: write only the tensors that are trained, and refer to the two folders for the rest.
        overwrite: replace `output_dir` if it holds a model.
        settings: fields of `InternVideoConfig`.

    Returns:
        The model.

    Raises:
        ValueError: if the two do not fit each other.
        FileExistsError: if `output_dir` is in the way.
    """
    output_dir = Path(output_dir)
    check_replaceable(output_dir, overwrite)
    internvideo_mae, uniformerv2 = resolve_model(internvideo_mae), resolve_model(uniformerv2)
    for encoder in (internvideo_mae, uniformerv2):
        if Path(encoder).is_dir() and Path(encoder).resolve() == output_dir.resolve():
            raise FileExistsError(f"{output_dir} holds one of the encoders. Choose another folder.")
    model = InternVideoForVideoClassification.from_encoders(internvideo_mae, uniformerv2, **settings)
    processor = InternVideoFusedVideoProcessor.from_encoders(internvideo_mae, uniformerv2)
    encoders = model.config.encoders or {}
    names = [encoders[name] for name in ("internvideo_mae", "uniformerv2")]
    with atomic_directory(output_dir) as folder:
        model.save_pretrained(folder, adapters_only=adapters_only)
        processor.save_pretrained(folder)
        write_card(
            folder,
            f"InternVideo of {' and '.join(Path(name).name for name in names)}",
            family="internvideo",
            provenance="A masked and a multimodal encoder with cross-model attention (arXiv 2212.03191, section 3.3), "
            "not trained yet: its score is the mean of theirs. "
            + ("It refers to both and holds none of their frozen weights." if adapters_only else "It holds both."),
            pipeline_tag="video-classification",
            base_models=[name for name in names if not Path(name).is_dir()],
            sections={
                "Use": pipeline_snippet("video-classification"),
                "License": "The licenses are those of the two models.",
            },
        )
    return model
