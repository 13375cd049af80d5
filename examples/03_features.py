"""Sliding-window features of a video, and its reconstruction by a masked autoencoder.

    python examples/03_features.py

Prints the shape of the features, the time of their rows, and the path of the reconstruction. The bundled toy model
knows drawn shapes only; the masked autoencoder has RANDOM weights.
"""

import json
from pathlib import Path
from tempfile import mkdtemp

from safetensors.torch import load_file

import internvideo_hf
from internvideo_hf.demo.tour import draw_clips
from internvideo_hf.inference.features import extract_to_file
from internvideo_hf.inference.reconstruction import reconstruct
from internvideo_hf.utils.pictures import save_picture

FOLDER = Path(mkdtemp(prefix="internvideo-"))
VIDEO = FOLDER / draw_clips(FOLDER, 1, seed=1)[0].video

# 1. Features, one row per window. From a shell: internvideo extract VIDEO --model MODEL --out FOLDER
extractor = internvideo_hf.FeatureExtractor(internvideo_hf.demo_path("demo-classifier"), window=16, stride=8)
extract_to_file(extractor, VIDEO, FOLDER / "clip.safetensors")
features = load_file(FOLDER / "clip.safetensors")["features"]
seconds = json.loads((FOLDER / "clip.json").read_text())["seconds"]
print(f"{tuple(features.shape)} features; the first row covers seconds {seconds[0]}, the last {seconds[-1]}")

# 2. A reconstruction. From a shell: internvideo reconstruct VIDEO --model MODEL --out grid.png
config = internvideo_hf.InternVideoMAEConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=64, use_mean_pooling=False
)
internvideo_hf.InternVideoMAEForPreTraining(config).save_pretrained(FOLDER / "model")
internvideo_hf.build_processor(config).save_pretrained(FOLDER / "model")
save_picture(reconstruct(str(VIDEO), str(FOLDER / "model")), FOLDER / "grid.png")
print(f"Original, masked and reconstructed frames: {FOLDER / 'grid.png'}")
