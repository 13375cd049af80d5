"""Zero-shot classification: labels for a video, named when the question is asked.

    python examples/01_zero_shot.py

Prints the true sentence of a clip that it draws, and three labels with their scores. The model comes with the package
and knows drawn shapes only; put the folder of a converted checkpoint in its place, and videos of your own.
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import pipeline

import internvideo_hf
from internvideo_hf.demo.synthetic import canonical_caption
from internvideo_hf.demo.tour import draw_clips

FOLDER = Path(mkdtemp(prefix="internvideo-"))

# 1. A model. A released one: internvideo_hf.convert_checkpoint("InternVideo-MM-L-14.ckpt", "internvideo-mm-l14")
MODEL = internvideo_hf.demo_path("demo-mm")

# 2. A clip of something that the model has not seen in training.
clip = draw_clips(FOLDER, 1, seed=1)[0]
print(f"The clip: {canonical_caption(clip)}")

# 3. Ask. The same from a shell: internvideo zero-shot VIDEO --model MODEL --labels "..."
classify = pipeline("zero-shot-video-classification", model=MODEL)
others = [colour for colour in ("red", "green", "blue") if colour != clip.colour]
labels = [f"a {colour} {clip.shape}" for colour in (clip.colour, *others)]
for answer in classify(FOLDER / clip.video, candidate_labels=labels, hypothesis_template="there is {}"):
    print(f"{answer['score']:6.1%}  {answer['label']}")
