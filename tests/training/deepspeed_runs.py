"""Code for the processes of `test_deepspeed.py`, importable by spawned processes."""

import os
from pathlib import Path
from unittest.mock import patch

import torch
from models.internvideo_mae.test_modeling_internvideo_mae import tiny_config
from models.model_checks import move_from_start
from torch import distributed
from training.processes import CASES as FAMILIES
from training.processes import build
from training.scaling import CLIPS, RECIPE
from training.test_trainer import StopAfter

from benchmarks.model_memory import local_bytes
from internvideo_hf import InternVideoMAEForVideoClassification, InternVideoMMModel
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments

STAGES = (1, 2, 3)
STOPPED_AT = 2
BATCH = 4  # clips of a step, in all processes together
OPTIONS = RECIPE | {"save_steps": STOPPED_AT, "ema_decay": None, "evaluate_ema": False}


def arguments(folder: Path, **options) -> VideoTrainingArguments:
    # Not `use_cpu`: with it Accelerate leaves DeepSpeed out, and says nothing.
    share = BATCH // distributed.get_world_size()
    quiet = {"ddp_backend": "gloo", "disable_tqdm": True, "report_to": "none", "dataloader_pin_memory": False}
    return VideoTrainingArguments(folder, per_device_train_batch_size=share, **quiet, **OPTIONS | options)


def tiny_model() -> InternVideoMAEForVideoClassification:
    torch.manual_seed(0)
    return move_from_start(InternVideoMAEForVideoClassification(tiny_config(num_hidden_layers=2)))


def gathered(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All tensors of a model, buffers included, partitioned or not."""
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        tensors = [*model.named_parameters(), *model.named_buffers()]
        return {name: tensor.detach().clone() for name, tensor in tensors}


def train(folder: Path, start: Path, stop: int | None = None, resume: bool = False, **options) -> dict:
    args = arguments(folder, **options)
    # With ZeRO-3 from_pretrained builds the model in shares, since the arguments live.
    model = InternVideoMAEForVideoClassification.from_pretrained(start)
    partitioned = all(hasattr(parameter, "ds_id") for parameter in model.parameters())
    run = VideoTrainer(model, args, train_dataset=CLIPS)
    if stop is not None:
        run.add_callback(StopAfter(stop))
    run.train(resume_from_checkpoint=resume)
    groups = [(group["lr_scale"], group["weight_decay"] > 0) for group in run.optimizer.param_groups]
    found = {"weights": gathered(run.model), "partitioned": partitioned, "groups": groups}
    found["engine"] = type(run.model_wrapped).__name__
    found["optimizer bytes"] = optimizer_bytes(run.model_wrapped.optimizer)
    if run.average is not None:
        found["average"] = run.average.tensors
    return found


def optimizer_bytes(optimizer) -> int:
    """Of DeepSpeed's own copy of the weights, and of the moments."""
    names = ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat")
    copies = [tensor for name in names for tensor in getattr(optimizer, name, [])]
    moments = [tensor for state in optimizer.optimizer.state.values() for tensor in state.values() if tensor.ndim]
    return local_bytes(copies) + local_bytes(moments)


def fresh_families(folder: Path, wholes: dict) -> dict:
    """Models built in shares from nothing but their configurations: their tensors, or what DeepSpeed said."""
    args = arguments(folder)  # as long as they live, models are built in shares
    found = {}
    for name, model in wholes.items():
        try:
            found[name] = gathered(type(model)._from_config(model.config))
        except RuntimeError as error:
            found[name] = str(error)
    del args
    return found


def dual_encoder(folder: Path, model: InternVideoMMModel) -> str:
    """Return DeepSpeed's error for a model with a scalar parameter."""
    try:
        VideoTrainer(model, arguments(folder), train_dataset=CLIPS).train()
    except RuntimeError as error:
        return str(error)
    return ""


def run_stages(rank: int, folder: Path, processes: int) -> None:
    """Be one of several processes, as `accelerate launch` would start it with DeepSpeed, and save what comes out."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_SIZE": processes}
    os.environ.update({name: str(value) for name, value in places.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29500", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    os.environ.update(DS_ACCELERATOR="cpu", ACCELERATE_USE_DEEPSPEED="true")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    # It compiles for half a minute, and only inference calls it.
    patch("deepspeed.comm.torch.build_shm_op", return_value=None).start()
    wholes = {name: build(name)[0] for name in FAMILIES}
    for stage in STAGES:
        os.environ["ACCELERATE_DEEPSPEED_ZERO_STAGE"] = str(stage)
        for name in ("ACCELERATE_DEEPSPEED_ZERO3_INIT", "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"):
            os.environ[name] = str(stage == 3).lower()
        average = {} if stage == 3 else {"ema_decay": RECIPE["ema_decay"]}
        place = folder / f"stage{stage}"
        found = {
            "whole": train(place / "whole", folder / "start", **average),
            "stopped": train(place / "stopped", folder / "start", stop=STOPPED_AT, **average),
            "resumed": train(place / "stopped", folder / "start", resume=True, **average),
        }
        if stage != 3:
            found["dual encoder"] = dual_encoder(place / "dual", wholes["dual_encoder"])
        else:
            found["fresh"] = fresh_families(place, wholes)
            try:
                train(place / "refused", folder / "start", ema_decay=0.5)
            except ValueError as error:
                found["refused"] = str(error)
        torch.save(found, folder / f"stage{stage}-{rank}.pt")
    distributed.destroy_process_group()
