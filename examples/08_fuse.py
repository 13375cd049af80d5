"""Two classifiers as one: InternVideo's cross-model attention, and an ensemble of the same two by their scores.

    python examples/08_fuse.py

Prints the action of a clip, and what the models say. The UniFormerV2 comes with the package and knows drawn shapes
only; the VideoMAE beside it is small and has random weights, so that the answers mean little. Put the folders of two
converted classifiers in their place.
"""

from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

import internvideo_hf
from internvideo_hf.demo.tour import draw_clips

FOLDER = Path(mkdtemp(prefix="internvideo-"))
UNIFORMERV2 = internvideo_hf.demo_path("demo-classifier")
MAE = FOLDER / "mae"

# 1. Two models of the same classes. They may differ in all else: frames, size, statistics of pixels.
classes = AutoModelForVideoClassification.from_pretrained(UNIFORMERV2).config.id2label
sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 32, "num_frames": 8}
config = internvideo_hf.InternVideoMAEConfig(**sizes, id2label=classes)
internvideo_hf.InternVideoMAEForVideoClassification(config).save_pretrained(MAE)
internvideo_hf.build_processor(config).save_pretrained(MAE)
clip = draw_clips(FOLDER, 1, seed=1)[0]
print(f"The clip: the {clip.shape} {clip.action}")

# 2. One model of both. The same from a shell: internvideo fuse MAE UNIFORMERV2 --out FUSED
internvideo_hf.fuse_encoders(MAE, UNIFORMERV2, FOLDER / "fused", classifier_dropout=0.0)
fused = pipeline("multi-view-video-classification", model=str(FOLDER / "fused"))
print("fused:", fused(FOLDER / clip.video, top_k=2))

# 3. What training does, for one step; internvideo train internvideo/cma_k400 does it as the paper does. Both encoders
#    stay as they are, and the exchange between them opens.
model = AutoModelForVideoClassification.from_pretrained(FOLDER / "fused").train()
inputs = AutoVideoProcessor.from_pretrained(FOLDER / "fused")([FOLDER / clip.video], return_tensors="pt")
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-3)
model(**inputs, labels=torch.tensor([clip.label])).loss.backward()
optimizer.step()
print(f"{sum(p.numel() for p in trained):,} of {model.num_parameters():,} parameters are trained")
model.save_pretrained(FOLDER / "adapters", adapters_only=True)  # small: it refers to the two folders above

# 4. Or separate models, whose probabilities are summed. From a shell: internvideo evaluate --ensemble, for a list
ensemble = internvideo_hf.ScoreEnsemble.from_pretrained(MAE, UNIFORMERV2, views=[(1, 1), (2, 1)], weights=[0.2, 0.8])
print("ensemble:", ensemble(FOLDER / clip.video, top_k=2))
