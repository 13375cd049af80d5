"""Embeddings of lists and texts against the model called by hand, and the fingerprint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoProcessor
from video.clips import write_video

from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.inference.runner import RunSettings

PIXELS = {"num_frames": 2, "size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
TEXTS = ["a dog runs", "a car stops at a red light", "a dog runs", "snow"]
HERE = RunSettings(workers=0, quiet=True, max_damaged=0.5)


@pytest.fixture(scope="module")
def embedder(mm_folder) -> Embedder:
    return Embedder(mm_folder, "cpu", PIXELS)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"clip{number}.mp4", num_frames=12 + 9 * number) for number in range(3)]


@torch.no_grad()
def texts_by_hand(folder: Path, texts: list[str], **options) -> torch.Tensor:
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    rows = [model.get_text_features(**processor(text=[text], return_tensors="pt", **options)) for text in texts]
    return normalize(torch.cat([row.pooler_output for row in rows]), dim=-1)


@torch.no_grad()
def views_by_hand(folder: Path, video: Path, **options) -> torch.Tensor:
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    pixels = processor(videos=[str(video)], return_tensors="pt", **PIXELS, **options)["pixel_values_videos"]
    return normalize(model.get_video_features(pixels).pooler_output, dim=-1)


class TestTexts:
    def test_each_text_has_its_own_unit_vector(self, embedder, mm_folder):
        torch.testing.assert_close(embedder.embed_texts(TEXTS), texts_by_hand(mm_folder, TEXTS), atol=1e-5, rtol=1e-5)

    def test_repeated_texts_are_embedded_once_and_in_chunks(self, embedder, monkeypatch):
        expected, sizes, embed = embedder.embed_texts(TEXTS), [], embedder.model.get_text_features

        def counting(input_ids, **kwargs):
            sizes.append(len(input_ids))
            return embed(input_ids=input_ids, **kwargs)

        monkeypatch.setattr(embedder.model, "get_text_features", counting)
        monkeypatch.setattr("internvideo_hf.inference.embedder.CHUNK_SIZE", 2)
        torch.testing.assert_close(embedder.embed_texts(TEXTS), expected, atol=1e-5, rtol=1e-5)
        assert sizes == [2, 1]

    def test_long_texts_are_cut_only_where_asked(self, embedder, mm_folder):
        cut = {"max_length": 4, "truncation": True}
        torch.testing.assert_close(
            embedder.embed_texts(TEXTS, **cut), texts_by_hand(mm_folder, TEXTS, **cut), atol=1e-5, rtol=1e-5
        )
        assert (embedder.embed_texts(TEXTS[1:2], **cut) - embedder.embed_texts(TEXTS[1:2])).abs().max() > 1e-3
        with pytest.raises(ValueError, match="102 tokens, expected at most 77"):
            embedder.embed_texts(["word " * 100])

    def test_empty_texts_are_refused(self, embedder):
        for texts in ([], ["a dog", " "]):
            with pytest.raises(ValueError, match="text is empty"):
                embedder.embed_texts(texts)


class TestVideos:
    @pytest.mark.parametrize("batch_size", [1, 8])
    def test_views_of_a_list_are_merged_by_the_one_rule(self, mm_folder, videos, batch_size):
        """The mean of the views' unit vectors has length 1."""
        embedder = Embedder(mm_folder, "cpu", {**PIXELS, "num_clips": 2})
        rows, settings = [{"video": str(video)} for video in videos], RunSettings(batch_size, workers=0, quiet=True)
        views = torch.stack([views_by_hand(mm_folder, video, num_clips=2) for video in videos])
        separate, causes = embedder.embed_videos(rows, settings, merge=False)
        assert causes == {} and separate.shape == (3, 2, 64)
        torch.testing.assert_close(separate, views, atol=1e-5, rtol=1e-5)
        merged, _ = embedder.embed_videos(rows, settings)
        expected = torch.stack([sum(pair) / sum(pair).norm() for pair in views])
        torch.testing.assert_close(merged, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(embedder.embed_video(str(videos[1]))[0], expected[1], atol=1e-5, rtol=1e-5)

    def test_an_unreadable_video_has_a_cause_and_no_embedding(self, embedder, videos, tmp_path):
        (tmp_path / "noise.mp4").write_bytes(b"noise")
        rows = [{"video": str(video)} for video in (videos[0], tmp_path / "noise.mp4", videos[2])]
        embeddings, causes = embedder.embed_videos(rows, HERE)
        assert list(causes) == [1] and "noise.mp4" in causes[1]
        assert embeddings.isnan().all(dim=1).tolist() == [False, True, False]
        readable, _ = embedder.embed_videos(rows[2:], HERE)
        torch.testing.assert_close(embeddings[2], readable[0])

    def test_damaged_weights_are_named(self, mm_folder, videos):
        embedder = Embedder(mm_folder, "cpu", PIXELS)
        embedder.model.visual_projection.weight.data.fill_(float("nan"))
        with pytest.raises(ValueError, match="An embedding of .* is not finite"):
            embedder.embed_video(str(videos[0]))


def test_a_model_without_texts_embeds_videos_only(mae_folder, bikes):
    embedder = Embedder(mae_folder, "cpu")
    assert embedder.processor is None and embedder.logit_scale == 1
    assert embedder.embed_video(bikes).norm().item() == pytest.approx(1)
    with pytest.raises(ValueError, match="has no get_video_features.* Search by video or image"):
        embedder.embed_texts(["a dog"])


def test_the_logit_scale_is_the_factor_of_the_cosine(embedder):
    assert embedder.logit_scale == pytest.approx(np.exp(4.6052), rel=1e-5)  # of the random checkpoint


class TestFingerprint:
    def test_it_depends_on_content_alone(self, embedder, mm_folder, tmp_path):
        embedder.model.save_pretrained(tmp_path, max_shard_size="500KB")
        embedder.processor.save_pretrained(tmp_path)
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
        assert Embedder(tmp_path, "cpu").fingerprint == Embedder(mm_folder, "cpu", PIXELS).fingerprint

    @pytest.mark.parametrize(
        "options", [{"num_frames": 4}, {"sampler": "uniformerv2"}, {"image_mean": [0.5] * 3}, {"num_clips": 2}]
    )
    def test_other_pixels_give_another(self, embedder, mm_folder, options):
        assert Embedder(mm_folder, "cpu", PIXELS | options).fingerprint != embedder.fingerprint

    def test_so_do_other_weights_but_not_the_decoder(self, embedder, mm_folder):
        other = Embedder(mm_folder, "cpu", {**PIXELS, "decoder": "pyav"})
        assert other.fingerprint == embedder.fingerprint
        del other.fingerprint
        other.model.text_projection.weight.data[0, 0] += 1
        assert other.fingerprint != embedder.fingerprint
