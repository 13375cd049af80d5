"""transformers' own tests of processors, for every processor class."""

import json
import unittest
from typing import Any

import pytest
from mixins.source import load
from transformers import CLIPTokenizer

from internvideo_hf import InternVideoFusedVideoProcessor, InternVideoProcessor, InternVideoVideoProcessor
from internvideo_hf.processing.fused_video_processing import INPUTS
from internvideo_hf.processing.tokenizer import build_clip_tokenizer

pytestmark = pytest.mark.slow

videos, processors = load("test_video_processing_common"), load("test_processing_common")


class VideoTester:
    """What the tests ask of a class: videos, and the shape of what becomes of them."""

    batch_size, num_frames, num_channels = 5, 8, 3

    def prepare_video_inputs(self, equal_resolution: bool = False, return_tensors: str = "pil") -> list[Any]:
        return videos.prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=30,
            max_resolution=80,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )

    def expected_output_video_shape(self, videos: list[Any]) -> tuple[int, ...]:
        return self.num_frames, self.num_channels, 18, 18


OPTIONS = {
    "size": {"shortest_edge": 20},
    "crop_size": {"height": 18, "width": 18},
    "num_frames": 8,
    "sampler": "uniformerv2",
    "do_convert_rgb": True,  # so that they expect three channels of images with four
}


class Common(videos.VideoProcessingTestMixin):
    test_cast_dtype = True

    def setUp(self) -> None:
        super().setUp()
        self.video_processor_tester = VideoTester()

    @unittest.skip("rules select frames, not fps, and give a short video as many as a long one")
    def test_call_sample_frames(self) -> None: ...


class TestInternVideoVideoProcessor(Common, unittest.TestCase):
    fast_video_processing_class = InternVideoVideoProcessor
    video_processor_dict = OPTIONS


class TestInternVideoFusedVideoProcessor(Common, unittest.TestCase):
    fast_video_processing_class = InternVideoFusedVideoProcessor
    video_processor_dict = dict.fromkeys(INPUTS, json.loads(InternVideoVideoProcessor(**OPTIONS).to_json_string()))

    @unittest.skip("sizes and statistics are options of the processor of each encoder, which have no default")
    def of_each_encoder(self) -> None: ...

    test_call_numpy_4_channels = of_each_encoder
    test_init_without_params = of_each_encoder
    test_override_instance_attributes_does_not_affect_other_instances = of_each_encoder
    test_video_processor_from_dict_with_kwargs = of_each_encoder


class TestInternVideoProcessor(processors.ProcessorTesterMixin, unittest.TestCase):
    processor_class = InternVideoProcessor

    @classmethod
    def _setup_video_processor(cls) -> InternVideoVideoProcessor:
        return InternVideoVideoProcessor(**OPTIONS)

    @classmethod
    def _setup_tokenizer(cls) -> CLIPTokenizer:
        return build_clip_tokenizer(texts=["lower newer upper older longer string"])
