"""An encoder and a head learn together from videos, and are saved apart."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks.temporal_localization.drawn import TINY
from transformers import AutoModel, AutoVideoProcessor
from video.clips import write_video

from internvideo_hf import (
    ActionFormerConfig,
    ActionFormerForTemporalLocalization,
    UniFormerV2Config,
    UniFormerV2Model,
)
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.inference.features import extract_to_file
from internvideo_hf.inference.untrimmed import extractor_for
from internvideo_hf.processing.presets import build_processor
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.temporal_localization.end_to_end import EndToEnd, count_windows
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

WINDOW, STRIDE = 4, 2
ENCODER = UniFormerV2Config(
    hidden_size=16,
    num_attention_heads=2,
    num_hidden_layers=2,
    num_local_blocks=1,
    global_layers=[1],
    num_global_attention_heads=2,
    image_size=16,
    patch_size=8,
    num_frames=WINDOW,
    temporal_downsampling=False,
)
HEAD = {
    "feature_size": 16,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_levels": 3,
    "attention_windows": 5,
    "max_sequence_length": 16,
    "drop_path_rate": 0.0,
    "num_labels": 2,
}


def tiny(at_once: int) -> EndToEnd:
    torch.manual_seed(0)
    head, encoder = ActionFormerForTemporalLocalization(ActionFormerConfig(**HEAD)), UniFormerV2Model(ENCODER)
    return EndToEnd(head, encoder, WINDOW, STRIDE, at_once)


def test_windows_are_encoded_by_themselves_and_parts_change_no_gradient():
    assert [count_windows(frames, 4, 2) for frames in (1, 4, 5, 6, 9)] == [1, 1, 1, 2, 3]
    pixels = torch.randn(2, 10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = [{"segments": torch.tensor([[0.5, 2.5]]), "class_labels": torch.tensor([1])}] * 2
    gradients = []
    for at_once in (1, 3, 100):
        model = tiny(at_once).train()
        alone = model.encoder(pixel_values_videos=pixels[:1, 4:8]).pooler_output
        torch.testing.assert_close(model.encode(pixels)[:1, 2], alone)
        model(pixels, labels=labels).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert any(name.startswith("encoder.") for name in gradients[0])
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        # Sums over windows in another order; gradients that are 0 but for that differ by 1e-5.
        torch.testing.assert_close(other, gradients[0], atol=1e-4, rtol=1e-4)


def test_both_parts_keep_their_weights_and_groups():
    torch.manual_seed(0)
    head = ActionFormerForTemporalLocalization(ActionFormerConfig(**HEAD))
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    model = EndToEnd(head, UniFormerV2Model(ENCODER), WINDOW, STRIDE, 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.localizer.state_dict().items())
    assert list(model.layer_groups()) == ["encoder", "head"]
    model.freeze_backbone("encoder")
    assert not any(weight.requires_grad for weight in model.encoder.parameters())
    assert model.encode(torch.randn(1, 6, 3, 16, 16)).shape == (1, 2, 16)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("end_to_end")
    (root / "videos").mkdir()
    database = {}
    for number in range(6):
        write_video(root / f"videos/clip{number}.mp4", num_frames=40)
        found = [{"segment": [0.5, 2.0], "label": ["jump", "run"][number % 2]}]
        subset = "training" if number < 4 else "validation"
        database[f"clip{number}"] = {"subset": subset, "duration": 40 / 25, "annotations": found}
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    torch.manual_seed(0)
    UniFormerV2Model(ENCODER).save_pretrained(root / "encoder")
    build_processor(ENCODER).save_pretrained(root / "encoder")
    return root


def changes(data: Path, *more: str) -> list[str]:
    size = [change for change in TINY if change.startswith("model.") and "feature_size" not in change]
    return [
        *size,
        "model.config.feature_size=16",
        "data.features.folder=videos",
        "data.features.end_to_end=true",
        f"data.features.encoder={data / 'encoder'}",
        f"data.features.num_frames={WINDOW}",
        f"data.features.stride={STRIDE}",
        "data.features.fps=12.5",
        "data.features.at_once=3",
        "batch_size=2",
        "training.per_device_train_batch_size=2",
        "training.dataloader_num_workers=0",
        "training.num_train_epochs=2",
        "training.warmup_epochs=1",
        "training.ema_decay=0.5",
        "training.activation_checkpointing=true",
        "data.features.thresholds=[0.01]",
        *more,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_the_trained_encoder_gives_the_features_that_the_trained_head_knows(lora, data, tmp_path):
    options = "{r: 2, target_modules: [q_proj, v_proj], modules_to_save: [localizer]}"
    more = [f"model.lora={options}"] if lora else []
    recipe = load_recipe("temporal_localization/custom", changes(data, *more))
    final = train(recipe, data, tmp_path / "run", quiet=True)
    old, new = (AutoModel.from_pretrained(folder).state_dict() for folder in (data / "encoder", final / "encoder"))
    assert old.keys() == new.keys() and any(not torch.equal(old[name], new[name]) for name in old)
    assert AutoVideoProcessor.from_pretrained(final / "encoder").num_frames == WINDOW
    config = json.loads((final / "config.json").read_text())
    assert config["architectures"] == ["ActionFormerForTemporalLocalization"]
    assert config["features"] == {"encoder": "encoder", "window": WINDOW, "stride": STRIDE, "fps": 12.5}

    model = ActionFormerForTemporalLocalization.from_pretrained(final)
    extractor = extractor_for(model.config, None, device="cpu")  # which the head finds beside itself
    assert extractor.settings.fps == 12.5 and extractor.name == str(final / "encoder")
    for number in range(4, 6):
        video = data / f"videos/clip{number}.mp4"
        extract_to_file(extractor, video, tmp_path / f"features/{video.name}.safetensors")
    (tmp_path / "annotations.json").write_text((data / "annotations.json").read_text())
    assert model.config.num_labels == 2
    protocol = load_protocol("temporal_localization/custom", ["data.features.thresholds=[0.01]"])
    result = evaluate(protocol, final, tmp_path, device="cpu", workers=0, quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert np.isfinite([line["loss"] for line in logged if "loss" in line]).all()
    scored = [line["eval_mAP"] for line in logged if "eval_mAP" in line]
    assert result["scores"]["mAP"] == pytest.approx(scored[-1], abs=1e-3)


def test_what_cannot_be_trained_together_is_refused(data, tmp_path):
    for change, message in (
        ("data.features.fps=null", "stride and fps must be given"),
        ("data.features.fixed_length=8", "are for features in files"),
        ("data.features.stride=2.5", "stride is 2.5, expected a number of frames"),
        ("data.features.folder=nowhere", "there is no such folder"),
    ):
        recipe = load_recipe("temporal_localization/custom", changes(data, change))
        with pytest.raises((RecipeError, ValueError), match=message):
            train(recipe, data, tmp_path / "run", quiet=True)
