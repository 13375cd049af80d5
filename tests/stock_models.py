"""Tiny random models of transformers and of sentence-transformers in folders, as other people's are."""

from pathlib import Path

import torch
from transformers import (
    LlavaOnevisionVideoProcessor,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    VideoMAEModel,
    VideoPrismClipModel,
    VideoPrismConfig,
    VideoPrismProcessor,
    VideoPrismVisionConfig,
    VideoPrismVisionModel,
    VJEPA2Config,
    VJEPA2Model,
    VJEPA2VideoProcessor,
    XCLIPConfig,
    XCLIPModel,
    XCLIPProcessor,
)
from transformers.models.videoprism.tokenization_videoprism import VideoPrismTokenizer

from internvideo_hf.processing.tokenizer import build_clip_tokenizer

SIDE = 32
WIDTH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CROP = {"height": SIDE, "width": SIDE}
MAE = VideoMAEConfig(image_size=SIDE, patch_size=16, num_frames=4, **WIDTH)
JEPA = VJEPA2Config(
    crop_size=SIDE, patch_size=16, frames_per_clip=8, hidden_size=16, num_attention_heads=2, num_hidden_layers=2,
    pred_hidden_size=16, pred_num_attention_heads=2, pred_num_hidden_layers=1, num_pooler_layers=1, mlp_ratio=2,
)  # fmt: skip
PRISM = {
    "image_size": SIDE, "num_frames": 4, "tubelet_size": (1, 16, 16), "num_spatial_layers": 1,
    "num_temporal_layers": 1, "num_auxiliary_layers": 1, **WIDTH,
}  # fmt: skip
LETTERS = [
    ("<pad>", 0.0),
    ("</s>", 0.0),
    ("<unk>", 0.0),
    *((letter, -2.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"),
]


def videomae_processor() -> VideoMAEImageProcessor:
    """Return VideoMAE's processor of images, which says nothing of frames."""
    return VideoMAEImageProcessor(size={"shortest_edge": SIDE}, crop_size=CROP)


def prism_processor(**options) -> LlavaOnevisionVideoProcessor:
    """Return VideoPrism's processor of videos."""
    return LlavaOnevisionVideoProcessor(size=CROP, do_normalize=False, do_sample_frames=True, **options)


def xclip() -> tuple[XCLIPModel, XCLIPProcessor]:
    """Return an X-CLIP and its processor of images and texts."""
    text = {"vocab_size": 49408, "max_position_embeddings": 16, "bos_token_id": 49406, "eos_token_id": 49407, **WIDTH}
    vision = {
        "image_size": SIDE, "patch_size": 16, "num_frames": 4, "mit_hidden_size": 12, "mit_intermediate_size": 32,
        "mit_num_hidden_layers": 1, "mit_num_attention_heads": 2, **WIDTH,
    }  # fmt: skip
    heads = {"prompt_num_attention_heads": 2, "prompt_layers": 1}
    config = XCLIPConfig(text_config=text, vision_config=vision, projection_dim=12, **heads)
    return XCLIPModel(config), XCLIPProcessor(videomae_processor(), build_clip_tokenizer(16))


def prism_clip() -> tuple[VideoPrismClipModel, VideoPrismProcessor]:
    """Return a VideoPrism of videos and texts, and its processor."""
    config = VideoPrismConfig(text_config={"vocab_size": len(LETTERS), **WIDTH}, vision_config=PRISM)
    return VideoPrismClipModel(config), VideoPrismProcessor(
        prism_processor(), VideoPrismTokenizer(vocab=LETTERS, extra_ids=0)
    )


MAKERS = {
    "videomae": lambda: (VideoMAEModel(MAE), videomae_processor()),
    "videomae-classifier": lambda: (
        VideoMAEForVideoClassification(VideoMAEConfig(**MAE.to_diff_dict(), num_labels=3)),
        videomae_processor(),
    ),
    # Four frames, though the model was built for eight: the processor's rule counts.
    "vjepa2": lambda: (VJEPA2Model(JEPA), VJEPA2VideoProcessor(crop_size=SIDE, num_frames=4)),
    "vjepa2-fps": lambda: (VJEPA2Model(JEPA), VJEPA2VideoProcessor(crop_size=SIDE, fps=4, do_sample_frames=True)),
    "videoprism": lambda: (VideoPrismVisionModel(VideoPrismVisionConfig(**PRISM)), prism_processor(num_frames=4)),
    "videoprism-clip": prism_clip,
    "xclip": xclip,
}
"""Name -> model and processor."""


def write_stock(name: str, folder: Path) -> Path:
    """Write a model of `MAKERS` with its processor, as transformers saves them."""
    torch.manual_seed(0)
    model, processor = MAKERS[name]()
    with torch.no_grad():  # many weights begin as zeros, which hide mistakes
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_sentence_model(folder: Path) -> Path:
    """Write VideoPrism's model of videos and texts as a sentence-transformers model, of unit vectors."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    transformer = SentenceTransformer(str(write_stock("videoprism-clip", folder / "stock")), device="cpu")[0]
    SentenceTransformer(modules=[transformer, Normalize()], device="cpu").save(str(folder / "sentences"))
    return folder / "sentences"
