"""Processors of the released UniFormers."""

from internvideo_hf.models.common.hand_prediction import HAND_LABELS
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.uniformer.configuration_uniformer import UniFormerConfig
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.labels import load_labels


def build_processor(config: UniFormerConfig) -> InternVideoVideoProcessor:
    """Build the processor of Ego4D's released test: frames over the whole video, OpenCV's resize, the center crop.

    Predictors of hands see the 2 seconds before the moments that they predict: the original cuts them beforehand.
    The classifiers of Kinetics see other pixels, resized after they are normalized, and frames at a stride of 4 (in
    their own test the last of 16 is the 64th frame, so that some steps have 5 frames).
    """
    side = {"height": config.image_size, "width": config.image_size}
    processor = InternVideoVideoProcessor(
        num_frames=config.num_frames,
        sampler="videomae_sparse",
        size={"shortest_edge": config.image_size},
        resize_method="cv2_linear",
        crop_size=side,
        crop_rounding="floor",
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    if set(classes_of(config)) <= set(HAND_LABELS):
        processor.configure({"sampler": "ego4d_hands", "sampler_kwargs": {"seconds": 2.0}})
    if config.num_labels in (len(load_labels("k400")), len(load_labels("k600"))):
        processor.configure(
            {
                "sampler": "videomae_dense",
                "sampler_kwargs": {"sampling_rate": 4},
                "resize_method": "torch_bilinear",
                "resize_rounding": "floor",
                "crop_rounding": "ceil",
                "image_mean": [0.45] * 3,
                "image_std": [0.225] * 3,
            }
        )
    return processor
