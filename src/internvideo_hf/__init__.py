"""The InternVideo family of video foundation models, native in Hugging Face transformers.

`import internvideo_hf` is all it takes for `AutoModel`, `AutoProcessor` and `pipeline` to know the families. It costs
nothing by itself: names are imported when they are first used, and registration waits for transformers' Auto classes.
"""

import importlib

from internvideo_hf import registration

__version__ = "0.1.0"

# Public name -> the module that defines it.
_EXPORTS = {
    "CheckpointError": "internvideo_hf.conversion.errors",
    "FailureLog": "internvideo_hf.data.failures",
    "InternVideoConfig": "internvideo_hf.models.internvideo.configuration_internvideo",
    "InternVideoForVideoClassification": "internvideo_hf.models.internvideo.modeling_internvideo",
    "InternVideoModel": "internvideo_hf.models.internvideo.modeling_internvideo",
    "InternVideoFusedVideoProcessor": "internvideo_hf.processing.fused_video_processing",
    "InternVideoMAEConfig": "internvideo_hf.models.internvideo_mae.configuration_internvideo_mae",
    "InternVideoMAEForPreTraining": "internvideo_hf.models.internvideo_mae.modeling_internvideo_mae",
    "InternVideoMAEForVideoClassification": "internvideo_hf.models.internvideo_mae.modeling_internvideo_mae",
    "InternVideoMAEModel": "internvideo_hf.models.internvideo_mae.modeling_internvideo_mae",
    "InternVideoMMConfig": "internvideo_hf.models.internvideo_mm.configuration_internvideo_mm",
    "InternVideoMMModel": "internvideo_hf.models.internvideo_mm.modeling_internvideo_mm",
    "InternVideoProcessor": "internvideo_hf.processing.processing",
    "InternVideoVideoProcessor": "internvideo_hf.processing.video_processing",
    "FeatureExtractor": "internvideo_hf.extraction",
    "ManifestError": "internvideo_hf.data.manifests",
    "MultiViewVideoClassificationPipeline": "internvideo_hf.pipelines.multi_view_video_classification",
    "SampleSettings": "internvideo_hf.data.samples",
    "ScoreEnsemble": "internvideo_hf.evaluation.ensembles",
    "ShardDataset": "internvideo_hf.data.shards",
    "UniFormerV2Config": "internvideo_hf.models.uniformerv2.configuration_uniformerv2",
    "UniFormerV2ForVideoClassification": "internvideo_hf.models.uniformerv2.modeling_uniformerv2",
    "UniFormerV2Model": "internvideo_hf.models.uniformerv2.modeling_uniformerv2",
    "ViCLIPConfig": "internvideo_hf.models.viclip.configuration_viclip",
    "ViCLIPForVideoClassification": "internvideo_hf.models.viclip.modeling_viclip",
    "ViCLIPModel": "internvideo_hf.models.viclip.modeling_viclip",
    "ViCLIPVisionConfig": "internvideo_hf.models.viclip.configuration_viclip",
    "ViCLIPVisionModel": "internvideo_hf.models.viclip.modeling_viclip",
    "VideoCollator": "internvideo_hf.data.collation",
    "VideoDataset": "internvideo_hf.data.dataset",
    "VideoDecodeError": "internvideo_hf.video",
    "VideoIndex": "internvideo_hf.retrieval.index",
    "VideoReader": "internvideo_hf.video",
    "VideoTextRetrievalPipeline": "internvideo_hf.pipelines.video_text_retrieval",
    "VideoTrainer": "internvideo_hf.training.trainer",
    "VideoTrainingArguments": "internvideo_hf.training.trainer",
    "ZeroShotVideoClassificationPipeline": "internvideo_hf.pipelines.zero_shot_video_classification",
    "build_processor": "internvideo_hf.conversion",
    "convert_checkpoint": "internvideo_hf.conversion",
    "demo_path": "internvideo_hf.demo.weights",
    "evaluate": "internvideo_hf.evaluation_run",
    "evaluate_ensemble": "internvideo_hf.ensemble_run",
    "fuse_encoders": "internvideo_hf.conversion",
    "initialize_from_clip": "internvideo_hf.conversion",
    "load_ensemble": "internvideo_hf.evaluation.protocols",
    "load_manifest": "internvideo_hf.data.manifests",
    "load_protocol": "internvideo_hf.evaluation.protocols",
    "load_recipe": "internvideo_hf.training.recipes",
    "make_data_set": "internvideo_hf.data.synthetic",
    "merge_checkpoints": "internvideo_hf.conversion",
    "retrieval_metrics": "internvideo_hf.evaluation.metrics",
    "train": "internvideo_hf.training_run",
}

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
