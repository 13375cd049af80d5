"""Training a dual encoder on videos with captions, by a recipe, with more pairs in the loss than fit memory at once.

    python examples/07_contrastive.py

The videos are made here, and the model goes on from the small one that comes with the package and knows drawn shapes
only; a few steps more teach it nothing. From a shell, and for a model of the world:

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
