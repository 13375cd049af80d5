"""Future hand prediction from raw videos."""

import math
from typing import Any

import torch

from internvideo_hf.inference.pipeline import VideoPipeline, check_saved_as
from internvideo_hf.tasks.hand_prediction.prediction import ClipReader, answer_of, columns_of, predict_points
from internvideo_hf.utils.names import did_you_mean, nearest

OPTIONS = ("second", "batch_size", "num_workers")
"""Options of a call."""
_ABOUT = "about"


class VideoHandPredictionPipeline(VideoPipeline):
    """Predicts where the hands will be in the moments after a clip, from its last seconds.

    Args:
        args: of `transformers.Pipeline`.
        kwargs: of `transformers.Pipeline`.

    >>> predict = pipeline("video-hand-prediction", model=model)
    >>> predict("kitchen.mp4", second=12.5)["hands"]["left"][4]
    {'moment': 'contact_frame', 'point': [811.2, 540.7]}
    """

    _load_video_processor = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_saved_as(self.model, "ForHandPrediction")
        columns_of(self.model.config)  # refuses a model of other points
        processor = self._process
        self.reader = ClipReader(processor, processor.views[0], bool(self.model.config.points_of_video))

    def __call__(self, inputs: Any, **kwargs: Any) -> dict[str, Any] | list[dict[str, Any]]:  # type: ignore[override]
        """Predict the hands of one or several videos.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes, with a frame rate.
            **kwargs: options of the pipeline:

                - second (`float`): time before which the clip ends, the first moment to predict, in seconds; the end
                  of the video by default. The frames from then on are not looked at.
                - batch_size (`int`), num_workers (`int`): as of transformers.

        Returns:
            For each video `second`, `width` and `height` in pixels, and `hands`: for "left" and "right", those that
            the model predicts, a list of `{"moment", "point"}`, x and y in pixels of the video from its upper left
            corner, which may lie outside it. The moments are those of Ego4D: pre_45 at that second, pre_30, pre_15 and
            pre_frame half a second after one another, and contact_frame, when the hands touch something. There are no
            scores: the model does not say how sure it is, or whether a hand will be seen.

        Raises:
            VideoDecodeError: if a video cannot be read, has no frame rate, or ends before the second.
            ValueError: if an option is invalid.
        """
        answers: dict[str, Any] | list[dict[str, Any]] = super().__call__(inputs, **kwargs)
        return answers

    def _sanitize_parameters(
        self, second: float | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        for name in options:
            raise TypeError(f"Unknown option {name}.{did_you_mean(nearest(name, OPTIONS))}")
        if second is None:
            return {}, {}, {}
        if isinstance(second, bool) or not isinstance(second, int | float) or not 0 < second < math.inf:
            raise ValueError(f"second={second!r}, expected seconds above 0: the clip is what comes before.")
        return {"second": second}, {}, {}

    def preprocess(self, video: Any, second: float | None = None) -> dict[str, torch.Tensor]:  # type: ignore[override]
        name = video if isinstance(video, str) else getattr(video, "name", type(video).__name__)
        return self.reader({"video": name, "file": video, "second": second})

    def _forward(self, model_inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:  # type: ignore[override]
        clips = model_inputs["pixel_values_videos"].shape[:2].numel()
        points = predict_points(self.model, {name: value.cpu() for name, value in model_inputs.items()}, clips)
        return {"points": torch.from_numpy(points), _ABOUT: model_inputs[_ABOUT]}

    def postprocess(self, model_outputs: dict[str, torch.Tensor]) -> dict[str, Any]:  # type: ignore[override]
        width, height, second = model_outputs[_ABOUT][0].tolist()
        hands = answer_of(model_outputs["points"][0].numpy(), self.model.config)
        return {"second": second, "width": int(width), "height": int(height), "hands": hands}
