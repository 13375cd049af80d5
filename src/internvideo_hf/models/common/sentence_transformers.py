"""What makes a dual encoder's folder a sentence-transformers model of text and video."""

import json
from pathlib import Path

from internvideo_hf.utils.files import atomic_write_text

_BASE = "sentence_transformers.base.modules"
_FILES = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": f"{_BASE}.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": f"{_BASE}.normalize.Normalize"},
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            modality: {"method": f"get_{modality}_features", "method_output_name": "pooler_output"}
            for modality in ("text", "video")
        },
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {
        "model_type": "SentenceTransformer",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
        "requirements": {
            "internvideo-hf": {
                "specifier": "",
                "reason": "It has the classes of this model. Import internvideo_hf, or pass trust_remote_code=True.",
            }
        },
    },
}
"""Name -> content. `1_Normalize` needs no folder: its settings are the defaults."""


def write_modules(folder: Path) -> None:
    """Write the files that sentence-transformers reads; those that are there stay.

    sentence-transformers writes some of them before it saves the model, with prompts and modules of its user.

    Args:
        folder: of a dual encoder.
    """
    for name, content in _FILES.items():
        if not (folder / name).exists():
            atomic_write_text(folder / name, json.dumps(content, indent=2) + "\n")


def has_modules(folder: Path) -> bool:
    """Return whether sentence-transformers reads a folder as a model of its own.

    Args:
        folder: of a model.
    """
    return all((folder / name).exists() for name in _FILES)
