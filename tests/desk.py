"""The files that snippets of the README and of the pages in `docs` name, small and with random weights."""

import runpy
from pathlib import Path

from transformers import CLIPConfig, CLIPModel
from video.clips import write_video

from internvideo_hf import UniFormerV2Config, UniFormerV2ForVideoClassification, build_processor
from internvideo_hf.demo.tour import draw_backgrounds, draw_clips, draw_long_video
from internvideo_hf.recipes.labels import load_labels

TESTS = Path(__file__).parent


def set_desk(folder: Path) -> None:
    """Write the files: clips as `internvideo demo` leaves them, a real one's lists, checkpoints as they were released.

    Args:
        folder: to write in.
    """
    write = runpy.run_path(str(TESTS / "released/random_mm.py"))
    write["write_captioner"](folder / "InternVideo-MM-L-14.ckpt")
    write["write_answerer"](folder / "msrvtt.ckpt", 3)
    (folder / "msrvtt_train_ans2label.json").write_text('{"ride": 0, "sing": 1}')
    clip = write_video(folder / "clip.mp4", 90)
    draw_clips(folder / "demo", 12, seed=1)  # as `internvideo demo` leaves them
    draw_long_video(folder / "demo", seed=1)
    draw_backgrounds(folder / "demo", seed=1)
    (folder / "videos").mkdir()
    (folder / "videos/bikes.mp4").write_bytes(clip.read_bytes())
    (folder / "train.csv").write_text("bikes.mp4,0\n")
    write = runpy.run_path(str(TESTS / "released/random_videomae.py"))
    write["write_classifier"](folder / "vit_b_hybrid_pt_800e_k400_ft.pth")
    write["write_pretrained"](folder / "mae-b.bin")
    write_uniformerv2(folder / "uniformerv2-b-k400")
    (folder / "msrvtt").mkdir()
    (folder / "msrvtt/video7.mp4").write_bytes(clip.read_bytes())
    lines = "key,vid_key,video_id,sentence\nret7,msr7,video7,people ride their bikes\n"
    (folder / "msrvtt/MSRVTT_JSFUSION_test.csv").write_text(lines)
    (folder / "k400").mkdir()
    (folder / "k400/bikes.mp4").write_bytes(clip.read_bytes())
    (folder / "k400/test.csv").write_text("bikes.mp4,0\n")
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3}
    vision, text = sizes | {"image_size": 32, "patch_size": 16}, sizes | {"vocab_size": 60}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text)).save_pretrained(
        folder / "openai/clip-vit-base-patch16"
    )


def write_uniformerv2(folder: Path) -> None:
    """Write a small UniFormerV2 with random weights, as `internvideo convert` does."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "global_layers": [0, 1]}
    classes = dict(enumerate(load_labels("k400")))
    config = UniFormerV2Config(**sizes, image_size=32, patch_size=16, id2label=classes)
    UniFormerV2ForVideoClassification(config).save_pretrained(folder)
    build_processor(config).save_pretrained(folder)
