"""The loop over videos: views of a row, order, unreadable videos, and the rule that merges views."""

import os
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from transformers import AutoModel
from video.clips import decode_in_order, write_video

from internvideo_hf import InternVideoFusedVideoProcessor, InternVideoVideoProcessor, VideoDecodeError
from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.inference import runner
from internvideo_hf.inference.runner import (
    RunSettings,
    cosine_scale,
    embed_views,
    load_model,
    merge_embeddings,
    read_videos,
    read_views,
    stack_views,
    video_features,
)

FRAMES = 40


def processor(**options) -> InternVideoVideoProcessor:
    pixels = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return InternVideoVideoProcessor(**pixels, **{"num_frames": 4, "sampler": "uniformerv2"} | options)


def fused() -> InternVideoFusedVideoProcessor:
    return InternVideoFusedVideoProcessor(
        processor(sampler="videomae_dense", sampler_kwargs={"sampling_rate": 2}),
        processor(num_frames=3, image_mean=[0.4] * 3),
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=FRAMES))


class TestReadViews:
    @pytest.mark.parametrize("make", [processor, fused])
    @pytest.mark.parametrize("views", [(1, 1), (2, 3)])
    def test_views_are_those_of_the_processor(self, clip, make, views):
        num_clips, num_crops = views
        made = read_views({"video": clip}, make(), num_clips, num_crops)
        expected = make()([clip], num_clips=num_clips, num_crops=num_crops, return_tensors="pt")
        assert made.keys() == expected.keys()
        for name, pixels in made.items():
            assert len(pixels) == num_clips * num_crops
            assert torch.equal(pixels, expected[name]), name

    def test_views_are_as_configured_by_default(self, clip):
        assert len(read_views({"video": clip}, processor(num_clips=2, num_crops=3))["pixel_values_videos"]) == 6

    def test_seconds_cut_out_a_part(self, clip):
        """At 30 frames a second, the frames of [0.5, 1) seconds are 15 to 29."""
        made = read_views({"video": clip, "start": 0.5, "end": 1.0}, processor(), num_clips=2)
        part = decode_in_order(clip)[15:30]
        expected = processor()([part], num_clips=2, return_tensors="pt")
        assert torch.equal(made["pixel_values_videos"], expected["pixel_values_videos"])

    def test_a_video_may_not_be_shorter_than_its_row_says(self, clip):
        read_views({"video": clip, "num_frames": FRAMES}, processor())
        with pytest.raises(VideoDecodeError, match="41 frames, 40 can be read"):
            read_views({"video": clip, "num_frames": FRAMES + 1}, processor())

    def test_frames_without_a_rate_do_not_suit_a_rule_in_seconds(self):
        frames = np.zeros((8, 32, 32, 3), np.uint8)
        assert len(read_views({"video": frames}, processor())["pixel_values_videos"]) == 1
        with pytest.raises(VideoDecodeError, match="no frame rate"):
            read_views({"video": frames}, processor(sampler="retrieval_fps"))


def read_number(row: dict) -> dict[str, torch.Tensor]:
    """Make a view of a row's number; multiples of 4 are unreadable."""
    if row["video"] % 4 == 0:
        raise VideoDecodeError(str(row["video"]), "it is damaged", "Leave it out.")
    return {"pixels": torch.full((1, 2), float(row["video"]))}


ROWS = [{"video": number} for number in range(1, 11)]


def collect(settings: RunSettings, **options) -> list[list[tuple[int, float | str]]]:
    return [
        [(row, views["pixels"][0, 0].item() if isinstance(views, dict) else str(views)) for row, views in batch]
        for batch in read_videos(ROWS, read_number, settings, **options)
    ]


class TestReadVideos:
    settings = partial(RunSettings, quiet=True, max_damaged=0.2)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_batches_come_in_order_with_causes(self, workers):
        batches = collect(self.settings(workers=workers), at_once=4)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        items = [item for batch in batches for item in batch]
        assert [row for row, _ in items] == list(range(10))
        for row, found in items:
            if row in (3, 7):
                assert "it is damaged" in found
            else:
                assert found == row + 1

    def test_a_run_continues_at_a_row(self):
        assert collect(self.settings(workers=0), first=8, failed=2) == [[(8, 9.0)], [(9, 10.0)]]

    @pytest.mark.parametrize(("first", "failed"), [(0, 0), (4, 1)])
    def test_too_many_unreadable_videos_stop_the_run(self, first, failed):
        batches = read_videos(ROWS, read_number, self.settings(workers=0, max_damaged=0.1), first=first, failed=failed)
        with pytest.raises(TooManyFailuresError, match="2 of the first 8 videos .* of all 10 .* 0.1 .*damaged"):
            list(batches)

    def test_as_many_as_tolerated_do_not(self):
        assert len(collect(self.settings(workers=0, max_damaged=0.2))) == 10


def test_views_of_equal_shape_are_stacked():
    small, large = {"a": torch.zeros(1, 2), "b": torch.zeros(1, 3)}, {"a": torch.ones(1, 4), "b": torch.zeros(1, 3)}
    batch = [
        (5, small),
        (6, VideoDecodeError("a.mp4", "it is damaged", "Leave it out.")),
        (7, large),
        (8, {name: view + 1 for name, view in small.items()}),
    ]
    stacked = list(stack_views(batch))
    assert [rows for rows, _ in stacked] == [[5, 8], [7]]
    assert {name: view.shape for name, view in stacked[0][1].items()} == {"a": (2, 1, 2), "b": (2, 1, 3)}
    assert stacked[0][1]["a"].tolist() == [[[0, 0]], [[1, 1]]]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": -1}, {"max_damaged": 1}, {"max_damaged": -0.1}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RunSettings(**options)


class TestFeatures:
    def test_embeddings_are_unit_vectors_of_the_projected_features(self, mm_folder):
        model = load_model(AutoModel, mm_folder, "cpu")
        assert not model.training
        pixels = torch.rand(2, 3, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = model.get_video_features(pixels.reshape(6, 2, 3, 64, 64)).pooler_output
            found = embed_views(model, pixels)
        np.testing.assert_allclose(
            found.reshape(6, -1), expected / (expected**2).sum(1, keepdim=True).sqrt(), atol=1e-6
        )

    @torch.no_grad()
    def test_a_model_without_texts_gives_its_pooled_output(self, mae_folder):
        model = load_model(AutoModel, mae_folder, "cpu")
        config = model.config
        pixels = torch.rand(1, config.num_frames, 3, config.image_size, config.image_size)
        torch.testing.assert_close(video_features(model, pixels), model(pixels).pooler_output)

    def test_merging_averages_unit_vectors(self):
        views = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.6, 0.8]]])
        torch.testing.assert_close(merge_embeddings(views), torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))

    def test_the_cosine_has_the_learned_factor_or_one(self, mm_folder, viclip_folder, mae_folder):
        assert cosine_scale(load_model(AutoModel, mm_folder, "cpu")).item() == pytest.approx(np.exp(4.6052), rel=1e-5)
        viclip = load_model(AutoModel, viclip_folder, "cpu")
        viclip.config.inference_scale = 50.0
        assert cosine_scale(viclip).item() == pytest.approx(50, rel=1e-5)
        viclip.config.inference_scale = 100  # the released demo's, exactly; exp(log(100)) is 100.00001
        assert cosine_scale(viclip).item() == 100
        assert cosine_scale(load_model(AutoModel, mae_folder, "cpu")).item() == 1


def test_ctrl_c_waits_until_the_workers_have_started(monkeypatch):
    started = []

    class Loader:
        def __init__(self, *args, **options):
            pass

        def __iter__(self):
            # Where there is another thread, the system may hand it the signal.
            thread = threading.Thread(target=lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(0.05)))
            thread.start()
            thread.join()
            started.append(True)
            return iter(())

    monkeypatch.setattr(runner, "DataLoader", Loader)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(read_videos([{"video": "a.mp4"}], read=dict, settings=RunSettings(quiet=True)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert started == [True]
