"""Features of words: the token states of a frozen text tower."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.inference.runner import load_model
from internvideo_hf.models.common.loading import revision
from internvideo_hf.processing.processing import clean_text
from internvideo_hf.processing.scripts import warn_of_foreign
from internvideo_hf.utils.names import with_article
from internvideo_hf.utils.pretrained import load_pretrained

logger = logging.get_logger(__name__)
CHUNK_SIZE = 64  # texts of a forward pass


class TextEncoder:
    """A frozen text tower with its tokenizer, which computes each distinct text once.

    Args:
        name: folder or Hub name of a model of video and text, of a CLIP of transformers, or of a text encoder.
        device: where the tower runs; the accelerator if there is one.
        dtype: number type of the tower, such as "float16"; as saved if None. Features are float32 in any case.

    Raises:
        ValueError: if the model reads no text, or lacks weights.
    """

    def __init__(self, name: str | Path, device: str | torch.device | None = None, dtype: str | None = None):
        self.name = resolve_model(name)
        _check_reads_text(self.name)
        model = load_model(AutoModel, self.name, device, dtype)
        self.revision = revision(self.name, model)
        # Towers of CLIP are models of their own.
        self.tower: Any = getattr(model, "text_model", model)
        self.tokenizer: Any = load_pretrained(AutoTokenizer, self.name)
        self._known: dict[str, torch.Tensor] = {}

    @property
    def size(self) -> int:
        """Channels of the features of a word."""
        return int(self.tower.config.hidden_size)

    def encode(self, texts: Sequence[str], progress: bool = False) -> list[torch.Tensor]:
        """Return the states of each text's tokens, start and end included: `(tokens, size)` each, float32 on the CPU.

        Args:
            texts: any number of them. Those with more tokens than the tower takes are cut, with a warning.
            progress: show a progress bar, if it takes longer than two seconds.

        Raises:
            ValueError: if a text is empty.
        """
        cleaned = [clean_text(text) for text in texts]
        if not all(cleaned):
            raise ValueError("A text is empty. Describe what to look for.")
        new = list(dict.fromkeys(text for text in cleaned if text not in self._known))
        warn_of_foreign(new)
        with tqdm(total=len(new), desc="Encoding texts", unit="text", delay=2, disable=not progress) as bar:
            for start in range(0, len(new), CHUNK_SIZE):
                chunk = new[start : start + CHUNK_SIZE]
                self._known |= zip(chunk, self._states(chunk), strict=True)
                bar.update(len(chunk))
        return [self._known[text] for text in cleaned]

    @torch.no_grad()
    def _states(self, texts: list[str]) -> list[torch.Tensor]:
        longest = min(self.tokenizer.model_max_length, self.tower.config.max_position_embeddings)
        ids = self.tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
        if any(len(row) > longest for row in self.tokenizer(texts, verbose=False)["input_ids"]):
            logger.warning_once(f"A text has more than the {longest} tokens that {self.name} takes, and is cut.")
        found: dict[int, torch.Tensor] = {}
        # Texts of one length together: nothing is padded, whatever the tower does with padding.
        for length in sorted({len(row) for row in ids}):
            places = [place for place, row in enumerate(ids) if len(row) == length]
            batch = torch.tensor([ids[place] for place in places], device=self.tower.device)
            found |= zip(places, self.tower(input_ids=batch).last_hidden_state.float().cpu(), strict=True)
        return [found[place] for place in range(len(texts))]


def _check_reads_text(name: str) -> None:
    """Refuse a model that reads no text, before its weights are loaded."""
    config = load_pretrained(AutoConfig, name)
    if hasattr(config, "text_config"):
        return
    model_class: Any = AutoModel._model_mapping.get(type(config), None)
    if model_class is None or "input_ids" not in signature(model_class.forward).parameters:
        kind = config.model_type if model_class is None else with_article(model_class.__name__)
        raise ValueError(
            f"{name} reads no text: it holds {kind}. Give a model of video and text, a CLIP or a text encoder."
        )
