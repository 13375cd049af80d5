"""Classification as the published tests do it: several views of a video, decoded once, their scores averaged.

    python examples/02_classify.py

Prints the true action of a clip that it draws, and the five best of twelve. The model comes with the package and knows
drawn shapes only; put the folder of a converted classifier in its place, and videos of your own.
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import pipeline

import internvideo_hf
from internvideo_hf.demo.tour import draw_clips

FOLDER = Path(mkdtemp(prefix="internvideo-"))

# 1. A model. A released one: internvideo_hf.convert_checkpoint("vit_b_hybrid_pt_800e_k400_ft.pth", "vit-b-k400")
MODEL = internvideo_hf.demo_path("demo-classifier")

# 2. A clip of something that the model has not seen in training.
clip = draw_clips(FOLDER, 1, seed=1)[0]
print(f"The clip: the {clip.shape} {clip.action}")

# 3. Ask. The same from a shell: internvideo classify VIDEO --model MODEL --views 2x1; of released models mostly 5x3
classify = pipeline("multi-view-video-classification", model=MODEL, num_clips=2, num_crops=1)
for answer in classify(FOLDER / clip.video, top_k=5):
    print(f"{answer['score']:6.1%}  {answer['label']}")

# 4. transformers' own pipeline works as well, with one clip of the video.
print("one clip:", pipeline("video-classification", model=MODEL)(str(FOLDER / clip.video), top_k=1)[0]["label"])
