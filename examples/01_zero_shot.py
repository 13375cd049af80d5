"""Zero-shot classification: label a video with labels of your choice.

    python examples/01_zero_shot.py

Prints the true caption of a synthetic clip, and three labels with their scores. The bundled toy model knows drawn
shapes only; replace it by a converted checkpoint, and the clip by your own videos.
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import pipeline

import internvideo_hf
from internvideo_hf.demo.synthetic import canonical_caption
from internvideo_hf.demo.tour import draw_clips

FOLDER = Path(mkdtemp(prefix="internvideo-"))

# 1. The model. For a released one: internvideo_hf.convert_checkpoint("InternVideo-MM-L-14.ckpt", "internvideo-mm-l14")
MODEL = internvideo_hf.demo_path("demo-mm")

# 2. A clip that was not in the training set.
clip = draw_clips(FOLDER, 1, seed=1)[0]
print(f"The clip: {canonical_caption(clip)}")

# 3. Classify. From a shell: internvideo zero-shot VIDEO --model MODEL --labels "..."
classify = pipeline("zero-shot-video-classification", model=MODEL)
others = [color for color in ("red", "green", "blue") if color != clip.color]
# The toy model was trained on whole sentences; on parts of them, such as "a blue arrow", it is often wrong.
labels = [f"a {color} {clip.shape} that {clip.action}" for color in (clip.color, *others)]
for answer in classify(FOLDER / clip.video, candidate_labels=labels, hypothesis_template="there is {}"):
    print(f"{answer['score']:6.1%}  {answer['label']}")
