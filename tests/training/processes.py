"""Code for the two processes of `test_processes.py`, importable by spawned processes."""

from pathlib import Path

import torch
from models.internvideo_mae import test_modeling_internvideo_mae as mae
from models.internvideo_mm import test_decoder_internvideo_mm as decoder
from models.internvideo_mm import test_modeling_internvideo_mm as mm
from models.model_checks import draw
from models.uniformerv2 import test_modeling_uniformerv2 as uniformerv2
from models.viclip import test_modeling_viclip as viclip
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from internvideo_hf import (
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoClassification,
    InternVideoMMForConditionalGeneration,
    InternVideoMMForQuestionAnswering,
    InternVideoMMModel,
    UniFormerV2ForVideoClassification,
    ViCLIPModel,
)

BATCH = 8


def ids(words: int, vocabulary: int) -> torch.Tensor:
    """Texts that all differ, with the end token, the largest id, at the end."""
    tokens = torch.randint(1, vocabulary - 1, (BATCH, words), generator=torch.Generator().manual_seed(5))
    tokens[:, -1] = vocabulary - 1
    return tokens


def mae_classifier():
    batch = {"pixel_values_videos": mae.clips(BATCH), "labels": torch.arange(BATCH) % mae.LABELS}
    return InternVideoMAEForVideoClassification(mae.tiny_config(head_init_scale=1.0)), batch


def mae_pretraining():
    batch = {"pixel_values_videos": mae.clips(BATCH), "bool_masked_pos": mae.mask_of(batch=BATCH)}
    return InternVideoMAEForPreTraining(mae.tiny_config(use_mean_pooling=False)), batch


def uniformerv2_classifier():
    config = uniformerv2.tiny_config(num_labels=5, classifier_dropout=0.0, global_dropout=0.0)
    batch = {"pixel_values_videos": draw(BATCH, 2, 3, 32, 32), "labels": torch.arange(BATCH) % 5}
    return UniFormerV2ForVideoClassification(config), batch


def dual_encoder():
    config = mm.tiny_config()
    config.vision_config.global_dropout = 0.0
    words = ids(5, config.text_config.vocab_size)
    side = config.vision_config.image_size
    batch = {"pixel_values_videos": draw(BATCH, 2, 3, side, side), "input_ids": words, "return_loss": True}
    return InternVideoMMModel(config), batch


def captioner():
    """Texts of several lengths: the mean of the caption loss is over the tokens of both processes."""
    _, batch = dual_encoder()
    config = mm.tiny_config(decoder_config=decoder.DECODER)
    config.vision_config.global_dropout = 0.0
    lengths = torch.tensor([5, 2, 5, 3, 4, 2, 5, 5])
    mask = (torch.arange(5) < lengths[:, None]).long()
    words = batch["input_ids"] * mask
    words[torch.arange(BATCH), lengths - 1] = config.text_config.vocab_size - 1
    return InternVideoMMForConditionalGeneration(config), batch | {"input_ids": words, "attention_mask": mask}


def answers():
    """Questions of which three have an answer that is not in the list, two of them in one process."""
    _, batch = dual_encoder()
    changes = {"projection_dim": None, "num_labels": 5, "classifier_dropout": 0.0}
    config = mm.tiny_config(decoder_config=decoder.DECODER, **changes)
    config.vision_config.global_dropout = 0.0
    labels = torch.tensor([0, -100, 2, -100, 4, 3, -100, 1])
    batch = {"pixel_values_videos": batch["pixel_values_videos"], "input_ids": batch["input_ids"], "labels": labels}
    return InternVideoMMForQuestionAnswering(config), batch


def viclip_with_doubled_captions():
    config = viclip.tiny_config()
    words = ids(5, config.text_config.vocab_size)
    words[6] = words[1]  # in the other process
    captions = torch.tensor([0, 1, 2, 3, 4, 5, 1, 7])
    side, frames = config.vision_config.image_size, config.vision_config.num_frames
    pixels = draw(BATCH, frames, 3, side, side)
    batch = {"pixel_values_videos": pixels, "input_ids": words, "caption_ids": captions, "return_loss": True}
    return ViCLIPModel(config), batch


CASES = {
    function.__name__: function
    for function in (
        mae_classifier,
        mae_pretraining,
        uniformerv2_classifier,
        dual_encoder,
        captioner,
        answers,
        viclip_with_doubled_captions,
    )
}


def build(case: str):
    """Return the model of a case in training mode, perturbed so that no gradient is zero, and the batch."""
    torch.manual_seed(0)
    model, batch = CASES[case]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.train(), batch


def gradients_in(rank: int, folder: Path, processes: int) -> None:
    """Take one process's share of every case through `DistributedDataParallel`, and save what it made of it.

    Of two processes that compare pairs the first has two more, as where the other has met videos that cannot be read.
    """
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    for case in CASES:
        model, batch = build(case)
        cuts = [BATCH * number // processes for number in range(processes + 1)]
        if "return_loss" in batch:
            cuts[1] += 1
        mine = {
            key: value[cuts[rank] : cuts[rank + 1]] if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        parallel = DistributedDataParallel(model, find_unused_parameters=True)
        loss = parallel(**mine).loss
        loss.backward()
        found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        torch.save({"gradients": found, "loss": loss.detach()}, folder / f"{case}-{rank}.pt")
    distributed.destroy_process_group()
