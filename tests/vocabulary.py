"""A small part of CLIP's vocabulary: to read all 49,408 tokens takes longer than a small model runs."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoProcessor, GenerationConfig

from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.recipes.labels import load_labels

OTHER_TEXTS = ["a photo of a dog, a cat and something red, green or blue.", "what does the man do? who sings?"]


def cut_vocabulary(folder: Path) -> Path:
    """Leave a saved model the tokens of Kinetics' labels and a few others; other words become several tokens.

    Args:
        folder: of a dual encoder, or a model with its text tower; changed in place.

    Returns:
        The folder.
    """
    processor, config = AutoProcessor.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    full = processor.tokenizer.get_vocab()
    few = build_clip_tokenizer(processor.tokenizer.model_max_length, [*load_labels("k400"), *OTHER_TEXTS])
    rows = [full[token] for token in few.convert_ids_to_tokens(range(len(few)))]
    weights = {
        name: tensor[rows] if tensor.ndim and len(tensor) == len(full) else tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": few.bos_token_id, "eos_token_id": few.eos_token_id}
    config.text_config.update({"vocab_size": len(few)} | ids)
    config.save_pretrained(folder)
    if (folder / "generation_config.json").exists():
        generation = GenerationConfig.from_pretrained(folder)
        generation.update(**ids)
        generation.save_pretrained(folder)
    processor.tokenizer = few
    processor.save_pretrained(folder)
    return folder
