"""The InternVideo family of video foundation models, native in Hugging Face transformers.

`import internvideo_hf` is all it takes for `AutoModel`, `AutoProcessor` and `pipeline` to know the families. It costs
nothing by itself: names are imported when they are first used, and registration waits for transformers' Auto classes.
"""

import importlib

from internvideo_hf import auto, registration, tasks
from internvideo_hf.utils import moved  # noqa: F401  # old names of modules

__version__ = "0.1.0"

# Public name -> the module that defines it.
_EXPORTS = {
    "CheckpointError": "internvideo_hf.checkpoints.errors",
    "FailureLog": "internvideo_hf.data.failures",
    "InternVideoFusedVideoProcessor": "internvideo_hf.processing.fused_video_processing",
    "InternVideoProcessor": "internvideo_hf.processing.processing",
    "InternVideoVideoProcessor": "internvideo_hf.processing.video_processing",
    "FeatureExtractor": "internvideo_hf.inference.features",
    "OpenSetScorer": "internvideo_hf.inference.open_set.scorer",
    "ManifestError": "internvideo_hf.data.records",
    "ReadSettings": "internvideo_hf.video",
    "SampleSettings": "internvideo_hf.data.samples",
    "ScoreEnsemble": "internvideo_hf.evaluation.ensembles",
    "ShardDataset": "internvideo_hf.data.shards",
    "VideoCollator": "internvideo_hf.data.collation",
    "VideoDataset": "internvideo_hf.data.dataset",
    "VideoDecodeError": "internvideo_hf.video",
    "VideoIndex": "internvideo_hf.search.index",
    "VideoReader": "internvideo_hf.video",
    "VideoTrainer": "internvideo_hf.training.trainer",
    "VideoTrainingArguments": "internvideo_hf.training.trainer",
    "build_processor": "internvideo_hf.processing.presets",
    "calibrate": "internvideo_hf.tasks.open_set.calibration",
    "convert_checkpoint": "internvideo_hf.checkpoints",
    "demo_path": "internvideo_hf.checkpoints.model_names",
    "evaluate": "internvideo_hf.evaluation.run",
    "evaluate_ensemble": "internvideo_hf.evaluation.ensemble_run",
    "fuse_encoders": "internvideo_hf.checkpoints",
    "initialize_from_clip": "internvideo_hf.checkpoints",
    "load_ensemble": "internvideo_hf.evaluation.protocols",
    "load_instructions": "internvideo_hf.data.instructions",
    "load_internvid": "internvideo_hf.data.internvid",
    "load_manifest": "internvideo_hf.data.manifests",
    "load_protocol": "internvideo_hf.evaluation.protocols",
    "load_recipe": "internvideo_hf.training.recipes",
    "make_data_set": "internvideo_hf.demo.synthetic",
    "merge_checkpoints": "internvideo_hf.checkpoints",
    "released": "internvideo_hf.checkpoints.model_names",
    "retrieval_metrics": "internvideo_hf.inference.ranking",
    "stream_windows": "internvideo_hf.video",
    "train": "internvideo_hf.training.run",
}

for _family in auto.FAMILIES.values():
    _EXPORTS.update(_family.exports())
_EXPORTS.update(tasks.exports())
_EXPORTS.update(dict.fromkeys(auto.OWN_CLASSES, "internvideo_hf.auto"))

__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])


# Where transformers has been imported before. Only here: while `registration` itself is being imported, it would wait.
registration.register_what_is_due()
