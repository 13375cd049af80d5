"""Action detection from raw videos: who does what, and where."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.inference.pipeline import WholeVideoPipeline, check_saved_as
from internvideo_hf.tasks.action_detection.detection import EVERY, ActionDetector
from internvideo_hf.tasks.action_detection.detectors import PERSON, THRESHOLD, GivenBoxes, PersonDetector


class VideoActionDetectionPipeline(WholeVideoPipeline):
    """Finds the people in key frames of videos, what each of them does, and who is who over time.

    Args:
        args: of `transformers.Pipeline`.
        detector: folder or Hub name of any detector of objects of transformers, which finds the people.
        boxes: boxes of people in place of a detector: a file or a list, see `GivenBoxes`; also an option of a call.
        every: seconds from a key frame to the next, where people are detected; given boxes have times of their own.
        person_threshold: least score of a person, 0-1, where people are detected.
        person_class: name of the detector's class of people.
        kwargs: of `transformers.Pipeline`; `batch_size` is the number of key frames of a forward pass, 8 by default.

    >>> detect = pipeline("video-action-detection", model=model, detector="PekingU/rtdetr_r50vd")
    >>> detect("office.mp4", top_k=1)["key_frames"][3]
    {'time': 3.0, 'people': [{'track': 1, 'box': [0.1, 0.2, 0.4, 0.9], 'box_pixels': [128.0, 144.0, 512.0, 648.0],
     'score': 0.98, 'actions': [{'label': 'stand', 'score': 0.91}], 'box_index': 0}]}
    """

    _load_video_processor = True  # type: ignore[assignment]  # as in VideoPipeline
    options = ("boxes", "top_k", "threshold")

    def __init__(
        self,
        *args: Any,
        detector: str | Path | PersonDetector | None = None,
        boxes: Any = None,
        every: float = EVERY,
        person_threshold: float = THRESHOLD,
        person_class: str = PERSON,
        batch_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        check_saved_as(self.model, "ForVideoActionDetection")
        if detector is not None and boxes is not None:
            raise ValueError("Got both a detector and boxes of people. Give one of them.")
        if detector is not None and not isinstance(detector, PersonDetector):
            detector = PersonDetector(detector, person_threshold, person_class, self.device)
        self.detector = ActionDetector(self.model, self._process, detector, every, batch_size or 8)
        self.boxes = None if boxes is None else GivenBoxes(boxes)

    def __call__(self, inputs: Any, **kwargs: Any) -> dict[str, Any] | list[dict[str, Any]]:  # type: ignore[override]
        """Find the people of one or several videos, and what they do.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes.
            **kwargs: options of the pipeline:

                - boxes: boxes of people in the videos, see `GivenBoxes`.
                - top_k (`int`): actions of a person to return, the best first; all by default.
                - threshold (`float`): least score of an action, 0-1; 0 by default.

        Returns:
            For each video its `duration` in seconds, `width` and `height` in pixels; `key_frames`, a list of `{"time",
            "people"}` in the order of time; and `gaps`, `[start, end]` in seconds of stretches whose key frames are
            left out, since a frame around them is damaged. Each of the people has

                - `track`: number of the person in the video, from 1;
                - `box`, left, top, right, bottom as fractions of the frame, and `box_pixels`;
                - `score`: that it is a person, 1 for given boxes without scores;
                - `actions`, a list of `{"label", "score"}`, the best first. Scores are independent of each other: the
                  action's probability times the person's score;
                - `box_index`: place of the box in the list that was given. Boxes of which not more than a pixel in
                  width or height lies in the frame are left out.

        Raises:
            VideoDecodeError: if a video cannot be read, or boxes are given for a time after its end.
            ValueError: if an option or a box is invalid, or there are neither boxes nor a detector.
        """
        answers: dict[str, Any] | list[dict[str, Any]] = super().__call__(inputs, **kwargs)
        return answers

    def _sanitize_parameters(
        self, boxes: Any = None, top_k: int | None = None, threshold: float | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess = {} if boxes is None else {"boxes": GivenBoxes(boxes)}
        return preprocess, {}, self._best_answers(top_k, threshold, options)

    def preprocess(self, video: Any, boxes: GivenBoxes | None = None) -> dict[str, Any]:  # type: ignore[override]
        given = boxes or self.boxes
        if given is None and self.detector.detector is None:
            raise ValueError("Give boxes of people (boxes=...), or a detector that finds them (detector=...).")
        return {"video": video, "given": None if given is None else given.of(video)}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return {"found": self.detector.detect(model_inputs["video"], model_inputs["given"])}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], top_k: int | None = None, threshold: float = 0.0
    ) -> dict[str, Any]:
        answer: dict[str, Any] = model_outputs["found"].to_dict(top_k, threshold)
        return answer

    def get_iterator(self, inputs: Sequence[Any], *parameters: Any) -> Iterable[Any]:
        _, _, preprocess_params, *_ = parameters
        given = preprocess_params.get("boxes") or self.boxes
        if given is not None:
            given.check_videos(len(inputs))
        return super().get_iterator(inputs, *parameters)
