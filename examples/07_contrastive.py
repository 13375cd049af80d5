"""Training a dual encoder on videos with captions, by a recipe, with more pairs in the loss than fit memory at once.

    python examples/07_contrastive.py

The videos are made here, and the model is much too small and trained much too briefly to be of use. From a shell:

    internvideo train viclip/finetune_base --data-root FOLDER --start-from viclip-b --output-dir run --grad-cache 16
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import pipeline

import internvideo_hf

FOLDER = Path(mkdtemp(prefix="internvideo-"))
internvideo_hf.make_data_set(FOLDER / "data", clips=12)

TOWER = "hidden_size: 48, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4"
recipe = internvideo_hf.load_recipe(
    "viclip/finetune_base",
    [
        "data.train=train_captions.jsonl",  # a row for each of a video's captions, of the columns video and caption
        "data.validation=val.jsonl",
        "data.equal_captions=text",  # pairs of the same caption are no wrong answers for each other
        f"model.config.vision_config={{{TOWER}, image_size: 64, num_frames: 4}}",
        f"model.config.text_config={{{TOWER}, max_position_embeddings: 32}}",
        "model.config.projection_dim=32",
        "batch_size=24",
        "training.grad_cache=8",  # the loss compares 24 pairs, of which 8 are in memory at a time
        "training.num_train_epochs=1",
        "training.warmup_epochs=0.5",
        "training.dataloader_num_workers=0",
    ],
)
model = internvideo_hf.train(recipe, FOLDER / "data", FOLDER / "run", start="random")

classify = pipeline("zero-shot-video-classification", model=str(model))
print(classify(str(FOLDER / "data/val/00000.mp4"), candidate_labels=["a red heart grows", "a blue moon turns"]))
print("One epoch of 12 videos teaches nothing: this answer means nothing.")
