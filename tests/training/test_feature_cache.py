"""The cache of a frozen backbone's outputs: the fused model's, and those of a made-up model."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from data.executors.here import Here
from data.settings import write_videos
from PIL import Image
from safetensors.torch import load_file
from training.cache_work import Means

from internvideo_hf import InternVideoConfig, InternVideoMAEConfig, InternVideoModel, UniFormerV2Config
from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.failures import FailureTable
from internvideo_hf.data.samples import SampleSettings
from internvideo_hf.processing.presets import build_processor
from internvideo_hf.training.cache_filling import STAGE, FrozenBackbone, load_backbone
from internvideo_hf.training.feature_cache import FeatureCache, fill_on_engine
from internvideo_hf.training.inputs import sample_settings
from internvideo_hf.training.recipes import ClipSettings
from internvideo_hf.utils.fingerprints import json_sha256, tensors_sha256

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}


@pytest.fixture
def model() -> InternVideoModel:
    torch.manual_seed(0)
    mae = InternVideoMAEConfig(**SIZES, hidden_size=16, image_size=16, num_frames=4)
    uniformerv2 = UniFormerV2Config(
        **SIZES, hidden_size=24, image_size=24, global_layers=[0, 1], num_frames=3, num_local_blocks=1
    )
    config = InternVideoConfig(internvideo_mae_config=mae.to_dict(), uniformerv2_config=uniformerv2.to_dict())
    return InternVideoModel(config).eval()


@pytest.fixture
def dataset(model, tmp_path) -> VideoDataset:
    clip = ClipSettings(
        sampler="videomae_dense_train",
        sampler_options={"sampling_rate": 2},
        view="finetuning",
        inputs={"uniformerv2": {"sampler": "uniformerv2_train", "sampler_options": {}}},
    )
    return VideoDataset(write_videos(tmp_path, 3), sample_settings(clip, build_processor(model.config), training=True))


def test_samples_are_the_trunks_of_the_clips(model, dataset, tmp_path):
    cache = FeatureCache(dataset, model, tmp_path / "kept", views=2)
    assert cache.fill(2, batch_size=2) == 6 and cache.fill(2) == 0
    for epoch in (0, 1, 2, 5):
        cache.set_epoch(epoch)
        kept = cache[1]
        dataset.set_epoch(epoch % 2)
        sample = dataset[1]
        assert kept["labels"] == sample["labels"] and kept["video"] == sample["video"]
        pixels = {name: value[None] for name, value in sample.items() if name.endswith("pixel_values_videos")}
        with torch.no_grad():
            trunk = model.encode_backbones(**pixels)
        torch.testing.assert_close(kept["backbone_outputs"]["video_tokens"], trunk.video_tokens[0])
        for found, expected in zip(kept["backbone_outputs"]["contexts"], trunk.contexts, strict=True):
            torch.testing.assert_close(found, expected[0])
    batch = VideoCollator()([cache[0], cache[2]])
    assert batch["backbone_outputs"]["contexts"][1].shape[0] == 2


def test_nothing_stale_is_taken(model, dataset, tmp_path):
    cache = FeatureCache(dataset, model, tmp_path / "kept")
    cache.fill(1)
    path = cache.path(0)
    video = Path(dataset.rows[0]["video"])
    shutil.copy(Path(dataset.rows[1]["video"]), video)
    assert cache.path(0) != path, "the file has changed"
    with torch.no_grad():
        model.internvideo_mae.layers[0].mlp.fc1.bias[0] += 1
    assert FeatureCache(dataset, model, tmp_path / "kept").folder != cache.folder, "the weights have changed"
    assert cache.fill(1) == 1, "only the changed file is missing"
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(8):
        Image.fromarray(np.full((24, 24, 3), 10, dtype=np.uint8)).save(frames / f"{number}.png")
    pictures = FeatureCache(VideoDataset([{"video": str(frames)}], dataset.settings), model, tmp_path / "kept")
    path = pictures.path(0)
    Image.fromarray(np.full((24, 25, 3), 200, dtype=np.uint8)).save(frames / "3.png")
    assert pictures.path(0) != path, "a frame has changed"
    cache.path(2).unlink()
    with pytest.raises(FileNotFoundError, match="same command again"):
        cache[2]


def test_a_full_disk_is_told_before_it_is_full(model, dataset, tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("internvideo_hf.training.cache_filling.shutil.disk_usage", lambda path: free)
    with pytest.raises(OSError, match="data.trunk_cache.folder"):
        FeatureCache(dataset, model, tmp_path / "kept").fill(1)


def test_files_of_earlier_versions_are_found(model, dataset, tmp_path):
    cache = FeatureCache(dataset, model, tmp_path, autocast_dtype=torch.bfloat16)
    settings = {
        name: {
            **{field: getattr(value, field) for field in vars(value)},
            "view_options": {
                key: option.to_dict() if hasattr(option, "to_dict") else option
                for key, option in value.view_options.items()
            },
        }
        for name, value in dataset.settings.items()
    }
    weights = f"sha256:{tensors_sha256(model.frozen_state())}"
    exchanges = [list(model.config.exchange_layers), list(model.config.exchange_blocks)]
    assert cache.folder.name == json_sha256([weights, exchanges, "torch.bfloat16", settings])[:32]
    cache.fill(1)
    assert load_file(cache.path(0)).keys() == {"video_tokens", "class_token", "contexts.0", "contexts.1"}


def test_any_model_with_a_frozen_part_has_a_cache(tmp_path):
    options = {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}
    settings = SampleSettings(4, "videomae_dense_train", "finetuning", {"sampling_rate": 2}, options)
    dataset = VideoDataset(write_videos(tmp_path, 2), settings)
    assert isinstance(Means(), FrozenBackbone) and not isinstance(torch.nn.Linear(1, 1), FrozenBackbone)
    cache = FeatureCache(dataset, Means(), tmp_path / "kept")
    assert cache.fill(1) == 2
    mean, outputs = dataset[1]["pixel_values_videos"].mean(), cache[1]["means"]
    torch.testing.assert_close(outputs["total"], mean)
    torch.testing.assert_close(torch.stack(outputs["parts"]), mean * torch.arange(12))


def contents(cache: FeatureCache) -> dict[str, bytes]:
    """Return the files of a cache by name."""
    return {file.name: file.read_bytes() for file in cache.folder.rglob("*.safetensors")}


def test_an_engine_writes_the_files_of_one_process(model, dataset, tmp_path):
    one = FeatureCache(dataset, model, tmp_path / "one", views=2)
    one.fill(2, batch_size=2, quiet=True)
    other = FeatureCache(dataset, model, tmp_path / "other", views=2)
    load = partial(load_backbone, model_class=InternVideoModel, config=model.config, start=None, seed=0)
    done = fill_on_engine([other], load, Here(), 2, table=FailureTable(None, STAGE), quiet=True)
    assert (done.computed, done.total, done.videos, done.failures) == (6, 6, 3, {})
    assert other.folder.name == one.folder.name and contents(other) == contents(one) and len(contents(one)) == 6
