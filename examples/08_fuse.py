"""Two ways to combine two classifiers: InternVideo's cross-model attention, and an ensemble of their scores.

    python examples/08_fuse.py

Prints the true action of a synthetic clip, and the labels of both. The UniFormerV2 is a bundled toy model that knows
drawn shapes only, and the VideoMAE is small and has RANDOM weights; replace them by two converted classifiers.
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

# 1. Two models with the same classes; frames, image size and pixel statistics may differ.
classes = AutoModelForVideoClassification.from_pretrained(UNIFORMERV2).config.id2label
sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 32, "num_frames": 8}
config = internvideo_hf.InternVideoMAEConfig(**sizes, id2label=classes)
internvideo_hf.InternVideoMAEForVideoClassification(config).save_pretrained(MAE)
internvideo_hf.build_processor(config).save_pretrained(MAE)
clip = draw_clips(FOLDER, 1, seed=1)[0]
print(f"The clip: the {clip.shape} {clip.action}")

# 2. The fused model. From a shell: internvideo fuse MAE UNIFORMERV2 --out FUSED
internvideo_hf.fuse_encoders(MAE, UNIFORMERV2, FOLDER / "fused", classifier_dropout=0.0)
fused = pipeline("multi-view-video-classification", model=str(FOLDER / "fused"))
print("fused:", fused(FOLDER / clip.video, top_k=2))

# 3. One training step; `internvideo train internvideo/cma_k400` runs the paper's training. Both encoders stay frozen,
#    and only the cross-model attention learns.
model = AutoModelForVideoClassification.from_pretrained(FOLDER / "fused").train()
inputs = AutoVideoProcessor.from_pretrained(FOLDER / "fused")([FOLDER / clip.video], return_tensors="pt")
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-3)
model(**inputs, labels=torch.tensor([clip.label])).loss.backward()
optimizer.step()
print(f"{sum(p.numel() for p in trained):,} of {model.num_parameters():,} parameters are trained")
model.save_pretrained(FOLDER / "adapters", adapters_only=True)  # small, since it refers to the two folders above

# 4. An ensemble, which sums the probabilities of separate models. From a shell, for a list: evaluate --ensemble
ensemble = internvideo_hf.ScoreEnsemble.from_pretrained(MAE, UNIFORMERV2, views=[(1, 1), (2, 1)], weights=[0.2, 0.8])
print("ensemble:", ensemble(FOLDER / clip.video, top_k=2))
