"""Classification as in the published tests: average the scores of several views of a video, decoded once.

    python examples/02_classify.py

Prints the true action of a synthetic clip, and the five best of twelve labels. The bundled toy model knows drawn
shapes only; replace it by a converted classifier, and the clip by your own videos.
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import pipeline

import internvideo_hf
from internvideo_hf.demo.tour import draw_clips

FOLDER = Path(mkdtemp(prefix="internvideo-"))

# 1. The model. For a released one: internvideo_hf.convert_checkpoint("vit_b_hybrid_pt_800e_k400_ft.pth", "vit-b-k400")
MODEL = internvideo_hf.demo_path("demo-classifier")

# 2. A clip that was not in the training set.
clip = draw_clips(FOLDER, 1, seed=1)[0]
print(f"The clip: the {clip.shape} {clip.action}")

# 3. Classify. From a shell: internvideo classify VIDEO --model MODEL --views 2x1 (released models: mostly 5x3)
classify = pipeline("multi-view-video-classification", model=MODEL, num_clips=2, num_crops=1)
for answer in classify(FOLDER / clip.video, top_k=5):
    print(f"{answer['score']:6.1%}  {answer['label']}")

# 4. transformers' own pipeline, with one clip of the video.
print("one clip:", pipeline("video-classification", model=MODEL)(str(FOLDER / clip.video), top_k=1)[0]["label"])
