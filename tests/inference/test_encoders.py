"""Video encoders: features are those of the model and processor by hand, for every pooling and layer."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoVideoProcessor,
    BertConfig,
    BertModel,
    TimesformerConfig,
    TimesformerModel,
    TimesformerVideoProcessor,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    VideoMAEVideoProcessor,
    VideoPrismVisionConfig,
    VideoPrismVisionModel,
    VivitConfig,
    VivitForVideoClassification,
    VivitVideoProcessor,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)

from internvideo_hf import FeatureExtractor, VideoReader
from internvideo_hf.inference.encoders import VideoEncoder

SIDE = 32
FRAMES = np.random.default_rng(0).integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)
WIDTH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SIZE = {"size": {"height": SIDE, "width": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
MAE = VideoMAEConfig(image_size=SIDE, patch_size=16, num_frames=4, **WIDTH)
JEPA = VJEPA2Config(
    crop_size=SIDE, patch_size=16, frames_per_clip=4, hidden_size=16, num_attention_heads=2, num_hidden_layers=2,
    pred_hidden_size=16, pred_num_attention_heads=2, pred_num_hidden_layers=1, num_pooler_layers=1, mlp_ratio=2,
)  # fmt: skip
PRISM = VideoPrismVisionConfig(
    image_size=SIDE, num_frames=4, tubelet_size=(1, 16, 16), num_spatial_layers=1, num_temporal_layers=1, **WIDTH
)
JEPA_PROCESSOR = VJEPA2VideoProcessor(crop_size=SIDE)
MODELS = {
    "videomae": (VideoMAEModel(MAE), VideoMAEVideoProcessor(**SIZE)),
    "videomae-classifier": (VideoMAEForVideoClassification(MAE), VideoMAEVideoProcessor(**SIZE)),
    "vjepa2": (VJEPA2Model(JEPA), JEPA_PROCESSOR),
    "vjepa2-classifier": (VJEPA2ForVideoClassification(JEPA), JEPA_PROCESSOR),
    "videoprism": (VideoPrismVisionModel(PRISM), JEPA_PROCESSOR),
    "timesformer": (
        TimesformerModel(TimesformerConfig(image_size=SIDE, patch_size=16, num_frames=4, **WIDTH)),
        TimesformerVideoProcessor(**SIZE),
    ),
    "vivit-classifier": (
        VivitForVideoClassification(
            VivitConfig(image_size=SIDE, num_frames=4, tubelet_size=[2, 16, 16], **WIDTH)
        ),
        VivitVideoProcessor(**SIZE),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with one folder for each of `MODELS`."""
    folder = tmp_path_factory.mktemp("encoders")
    for name, (model, processor) in MODELS.items():
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


def by_hand(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    model, processor = MODELS[name]
    inputs = processor(videos=[FRAMES[:4], FRAMES[4:8]], do_sample_frames=False, return_tensors="pt")
    more = {"skip_predictor": True} if name == "vjepa2" else {}
    return model.eval(), dict(inputs) | more


def encode(folder, name: str, **options) -> torch.Tensor:
    encoder = VideoEncoder(folder / name, device="cpu", **options)
    return encoder.encode(torch.stack([encoder.process(FRAMES[:4]), encoder.process(FRAMES[4:8])]))


@pytest.mark.parametrize("name", ["videomae", "vjepa2", "videoprism", "timesformer"])
def test_encoders_without_a_head_give_the_mean_of_their_tokens(folder, name):
    model, inputs = by_hand(name)
    with torch.no_grad():
        tokens = model(**inputs).last_hidden_state
    torch.testing.assert_close(encode(folder, name), tokens.mean(dim=1))
    torch.testing.assert_close(encode(folder, name, pooling="tokens"), tokens)


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("videomae-classifier", lambda model, tokens: model.fc_norm(tokens.mean(dim=1))),
        ("vjepa2-classifier", lambda model, tokens: model.pooler(tokens)),
        ("vivit-classifier", lambda model, tokens: tokens[:, 0]),
    ],
)
def test_classifiers_give_what_their_head_reads(folder, name, pool):
    model, inputs = by_hand(name)
    more = {"skip_predictor": True} if name.startswith("vjepa2") else {}
    with torch.no_grad():
        tokens = model.base_model(**inputs, **more).last_hidden_state
        pooled = pool(model, tokens)
    torch.testing.assert_close(encode(folder, name), pooled)
    torch.testing.assert_close(encode(folder, name, pooling="mean"), tokens.mean(dim=1))
    if name.startswith("vjepa2"):
        torch.testing.assert_close(encode(folder, name, pooling="attention"), pooled)
    else:
        with pytest.raises(ValueError, match=r"has no pooling by attention.*--pooling"):
            encode(folder, name, pooling="attention")


@pytest.mark.parametrize("name", ["videomae", "videomae-classifier", "vjepa2"])
def test_a_layer_is_pooled_by_its_mean(folder, name):
    model, inputs = by_hand(name)
    model = model.base_model if name.endswith("classifier") else model
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(encode(folder, name, layer=1), states[1].mean(dim=1))
    torch.testing.assert_close(encode(folder, name, layer=-1, pooling="tokens"), states[-1])
    with pytest.raises(ValueError, match=r"layer=7: .* has layers 1 to 2, where -1 is the last"):
        encode(folder, name, layer=7)


def test_layers_of_ours_join_the_frames_of_a_clip(small_folder):
    encoder = VideoEncoder(small_folder, layer=2, pooling="tokens", device="cpu")
    pixels = encoder.process(FRAMES[:2])[None]
    vision = AutoModel.from_pretrained(small_folder).vision_model.eval()
    with torch.no_grad():
        states = vision(pixels, output_hidden_states=True).hidden_states[2]
    assert len(states) == 2
    torch.testing.assert_close(encoder.encode(pixels)[0], states.flatten(0, 1))
    assert VideoEncoder(small_folder, pooling="attention", device="cpu").encode(pixels).shape == (1, 64)


def test_features_of_an_encoder_of_transformers_are_those_of_its_windows(folder):
    extractor = FeatureExtractor(folder / "videomae", 4, 2, device="cpu")
    with VideoReader(FRAMES) as reader:
        rows = torch.cat(list(extractor.rows(reader)))
    model, processor = (
        AutoModel.from_pretrained(folder / "videomae"),
        AutoVideoProcessor.from_pretrained(folder / "videomae"),
    )
    clips = [FRAMES[start : start + 4] for start in range(0, 9, 2)]
    with torch.no_grad():
        inputs = processor(videos=clips, do_sample_frames=False, return_tensors="pt")
        expected = model.eval()(**inputs).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(rows, expected)
    with pytest.raises(ValueError, match=r"window=16 must be 4, the frames of this model's positions \(--window\)"):
        FeatureExtractor(folder / "videomae", 16, 2, device="cpu")


def test_what_encodes_no_videos_is_refused_before_its_weights_are_loaded(tmp_path):
    config = BertConfig(vocab_size=8, **WIDTH)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is not an encoder of videos: its model_type is bert"):
        VideoEncoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "actionformer"}')
    with pytest.raises(ValueError, match="is a head on features, not an encoder"):
        VideoEncoder(tmp_path)
