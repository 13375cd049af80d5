"""Tasks for `transformers.pipeline` that transformers does not have."""

from transformers import AutoModel, AutoModelForVideoClassification
from transformers.pipelines import PIPELINE_REGISTRY

from internvideo_hf.pipelines.multi_view_video_classification import MultiViewVideoClassificationPipeline
from internvideo_hf.pipelines.video_text_retrieval import VideoTextRetrievalPipeline
from internvideo_hf.pipelines.zero_shot_video_classification import ZeroShotVideoClassificationPipeline

# Task -> pipeline class and the Auto class that loads its model.
TASKS = {
    "multi-view-video-classification": (MultiViewVideoClassificationPipeline, AutoModelForVideoClassification),
    "video-text-retrieval": (VideoTextRetrievalPipeline, AutoModel),
    "zero-shot-video-classification": (ZeroShotVideoClassificationPipeline, AutoModel),
}


def register() -> None:
    """Make `transformers.pipeline` know the tasks; calling it again changes nothing."""
    for task, (pipeline_class, auto_class) in TASKS.items():
        if task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=auto_class, type="multimodal"
            )


register()
