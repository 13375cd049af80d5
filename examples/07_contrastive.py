"""Contrastive training of a dual encoder from a recipe, with more pairs in the loss than fit in memory at once.

    python examples/07_contrastive.py

The videos are synthetic, and training continues from the bundled toy model, which knows drawn shapes only; a few more
steps do not improve it. From a shell, also for a real model:

    internvideo train demo/mm --data-root FOLDER --start-from demo-mm --output-dir run --grad-cache 8
    internvideo train viclip/finetune_base --data-root FOLDER --start-from viclip-b --output-dir run --grad-cache 16
"""

from pathlib import Path
from tempfile import mkdtemp

from transformers import pipeline

import internvideo_hf

FOLDER = Path(mkdtemp(prefix="internvideo-"))
internvideo_hf.make_data_set(FOLDER / "data", clips=24)

recipe = internvideo_hf.load_recipe(
    "demo/mm",
    [
        "data.similar_batches=null",  # there are too few captions to choose from
        "batch_size=24",
        "training.per_device_train_batch_size=24",
        "training.grad_cache=8",  # the loss compares 24 pairs, of which 8 are in memory at a time
        "training.max_steps=3",
        "training.warmup_steps=1",
        "training.learning_rate=1e-5",
        "training.dataloader_num_workers=0",
    ],
)
start = internvideo_hf.demo_path("demo-mm")
model = internvideo_hf.train(recipe, FOLDER / "data", FOLDER / "run", start=start)

classify = pipeline("zero-shot-video-classification", model=str(model), hypothesis_template="{}")
rows = internvideo_hf.load_manifest(FOLDER / "data/val.jsonl", FOLDER / "data")
print(rows[0]["caption"], classify(rows[0]["video"], candidate_labels=rows["caption"][:5], top_k=2))
