"""Code for the two processes of `test_scaling.py`, importable by spawned processes.

Each case is a function of the output folder. All cases run in the same pair of processes, since starting one takes
longer than a case.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from data.settings import settings
from models.actionformer import test_modeling_actionformer as actionformer
from models.internvideo_mae import test_modeling_internvideo_mae as mae
from models.internvideo_mae import test_modeling_internvideo_mae_anticipation as anticipation
from models.internvideo_mae import test_modeling_internvideo_mae_detection as detection
from models.internvideo_mae.test_modeling_internvideo_mae import FRAMES, SIDE, tiny_config
from models.internvideo_mm import test_modeling_internvideo_mm as mm
from models.model_checks import draw, move_from_start
from models.uniformerv2 import test_modeling_uniformerv2 as uniformerv2
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from training.processes import BATCH, build
from training.processes import CASES as FAMILIES
from transformers import default_data_collator
from transformers.modeling_layers import GradientCheckpointingLayer

from benchmarks.model_memory import local_bytes
from internvideo_hf import InternVideoMAEForVideoClassification, InternVideoMMModel, UniFormerV2ForVideoClassification
from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.features import FeatureGrid
from internvideo_hf.data.shards import ShardDataset
from internvideo_hf.tasks.temporal_localization.data import Sample
from internvideo_hf.tasks.temporal_localization.task import collate
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments

CLIPS = [
    {"pixel_values_videos": clip, "labels": index % 5} for index, clip in enumerate(draw(24, FRAMES, 3, SIDE, SIDE))
]
STEPS, SAVED_AT = 6, 3
RECIPE = {
    "layer_decay": 0.5,
    "weight_decay": 0.1,
    "final_weight_decay": 0.2,
    "ema_decay": 0.5,
    "evaluate_ema": True,
    "lr_scheduler_type": "cosine",
    "learning_rate": 1e-3,
    "max_steps": STEPS,
    "save_steps": SAVED_AT,
}
FSDP2 = {"fsdp": True, "fsdp_config": {"version": 2}}


def arguments(folder: Path, batch_size: int = 2, **options) -> VideoTrainingArguments:
    quiet = {"use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    args = VideoTrainingArguments(folder, per_device_train_batch_size=batch_size, **quiet, **options)
    if "fsdp" in options:
        allow_fsdp_on_cpu()
    return args


def allow_fsdp_on_cpu() -> None:
    """Let Accelerate shard on a CPU, as torch can: of itself it shards on accelerators only, else it takes DDP."""
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def trainer(args: VideoTrainingArguments, kind: type[VideoTrainer] = VideoTrainer, **options) -> VideoTrainer:
    """Without chance in the model: drop path would draw otherwise in each process."""
    torch.manual_seed(0)
    model = move_from_start(InternVideoMAEForVideoClassification(tiny_config(num_hidden_layers=2)))
    data = {"train_dataset": CLIPS, "eval_dataset": CLIPS[:4]}
    return kind(model, args, **data | options)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def outcome(run: VideoTrainer) -> dict:
    """Return all weights of a run."""
    return {
        "weights": {name: whole(tensor).clone() for name, tensor in run.model.state_dict().items()},
        "average": {name: whole(tensor).clone() for name, tensor in run.average.tensors.items()},
        "loss": run.evaluate()["eval_loss"],
    }


def ddp(folder: Path) -> dict:
    run = trainer(arguments(folder / "out", **RECIPE))
    run.train()
    return outcome(run) | {"type": run.accelerator.distributed_type.value}


def fsdp2(folder: Path) -> dict:
    run = trainer(arguments(folder / "out", **RECIPE, **FSDP2))
    run.train()
    parameters = dict(run.model.named_parameters())
    groups = [
        {
            "names": group["names"],
            "lr_scale": group["lr_scale"],
            "decayed": group["weight_decay"] > 0,
            "of the names": all(
                parameters[name] is parameter for name, parameter in zip(group["names"], group["params"], strict=True)
            ),
        }
        for group in run.optimizer.param_groups
    ]
    moments = [tensor for state in run.optimizer.state.values() for tensor in state.values() if tensor.ndim]
    kept = {"weights": parameters.values(), "optimizer": moments, "average": run.average.tensors.values()}
    return outcome(run) | {
        "groups": groups,
        "sizes": {name: local_bytes(tensors) for name, tensors in kept.items()},
        "sharded": all(isinstance(parameter, DTensor) for parameter in parameters.values()),
        "units": [name for name, module in run.model.named_modules() if isinstance(module, FSDPModule)],
    }


def fsdp2_resumed(folder: Path) -> dict:
    """Go on from the middle of what `fsdp2` wrote."""
    checkpoint = folder.parent / f"fsdp2/out/checkpoint-{SAVED_AT}"
    if distributed.get_rank() == 0:
        checkpoint.rename(folder / checkpoint.name)
    distributed.barrier()
    run = trainer(arguments(folder, **RECIPE, **FSDP2))
    run.train(resume_from_checkpoint=True)
    return outcome(run)


def fsdp2_families(folder: Path) -> dict:
    """Gradients of every family, sharded by the names of its layers."""
    found = {}
    for name in FAMILIES:
        model, batch = build(name)
        units = set(model._no_split_modules)
        layers = {
            type(module).__name__ for module in model.modules() if isinstance(module, GradientCheckpointingLayer)
        }
        make_scales_vectors(model)
        model = sharded(model)
        share, rank = BATCH // distributed.get_world_size(), distributed.get_rank()
        mine = {
            key: value[rank * share : (rank + 1) * share] if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        model(**mine).loss.backward()
        gradients = {key: whole(value.grad) for key, value in model.named_parameters() if value.grad is not None}
        wrapped = {type(module).__name__.removeprefix("FSDP") for module in model.modules() if is_sharded(module)}
        found[name] = {"gradients": gradients, "missing": (units | layers) - wrapped, "units": units}
    return found


def fsdp2_scalar(folder: Path) -> str:
    """Return torch's error for a model with a scalar parameter."""
    try:
        sharded(build("dual_encoder")[0])
    except ValueError as error:
        return str(error)
    return ""


def sharded(model: nn.Module) -> nn.Module:
    """Shard a model with Accelerate, without a Trainer."""
    forget_accelerate()
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=True)
    allow_fsdp_on_cpu()
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    return accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))[0]


def is_sharded(module: nn.Module) -> bool:
    """Whether a module is gathered and freed by itself, with all that it holds."""
    return isinstance(module, FSDPModule) and all(isinstance(tensor, DTensor) for tensor in module.parameters())


def make_scales_vectors(model: nn.Module) -> None:
    """Give scalars an axis: FSDP2 shards none."""
    for name, parameter in list(model.named_parameters(recurse=False)):
        if parameter.ndim == 0:
            setattr(model, name, nn.Parameter(parameter.detach()[None]))


class Recording(VideoTrainer):
    """Notes the labels of the clips that this process trains on."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.seen = [*getattr(self, "seen", []), inputs["labels"].tolist()]
        return super().compute_loss(model, inputs, *args, **kwargs)


def shards_read_by_one(folder: Path) -> dict:
    return shards(folder, ShardDataset(folder.parent / "shards", settings()))


def shards_of_each(folder: Path) -> dict:
    share = {"rank": distributed.get_rank(), "world_size": distributed.get_world_size()}
    dataset = ShardDataset(folder.parent / "shards", settings(), repeat=True, **share)
    return shards(folder, dataset, accelerator_config={"dispatch_batches": False})


def shards(folder: Path, dataset: ShardDataset, **options) -> dict:
    # Two steps of 2 clips in 2 processes are an epoch of 8 clips.
    args = arguments(folder / "out", max_steps=2, save_strategy="no", **options)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 1, "image_size": 16, "num_labels": 8}
    model = InternVideoMAEForVideoClassification(tiny_config(**sizes))
    run = Recording(model, args, train_dataset=dataset, data_collator=VideoCollator())
    run.train()
    return {"seen": run.seen}


def shards_split_twice(folder: Path) -> dict:
    """Return the errors for splits that would lose clips or wait forever."""
    rank, said = distributed.get_rank(), {}
    wrong = {
        "by one": {"rank": rank, "world_size": 2, "repeat": True},
        "ends": {"rank": rank, "world_size": 2},
        "other": {"rank": 1 - rank, "world_size": 2, "repeat": True},
    }
    for name, options in wrong.items():
        try:
            shards(folder, ShardDataset(folder.parent / "shards", settings(), **options))
        except ValueError as error:
            said[name] = str(error)
    return said


def norms_trainer(folder: Path, dual: bool, **options) -> VideoTrainer:
    """Four steps of 8 clips, by plain descent, which keeps differences small, of a model with batch norms."""
    blocks = {"num_local_blocks": 1, "local_intermediate_size": 8, "global_dropout": 0.0}
    torch.manual_seed(0)
    if dual:
        vision = mm.VISION | blocks
        model = InternVideoMMModel(mm.tiny_config(vision_config=vision))
        texts = torch.randint(1, 58, (32, 5), generator=torch.Generator().manual_seed(5))
        texts[:, -1] = 59
        rest = [{"input_ids": text, "return_loss": True} for text in texts]
    else:
        silent = blocks | {"classifier_dropout": 0.0}
        model = UniFormerV2ForVideoClassification(uniformerv2.tiny_config(num_labels=5, **silent))
        rest = [{"labels": index % 5} for index in range(32)]
    clips = [{"pixel_values_videos": clip} | more for clip, more in zip(draw(32, 2, 3, 32, 32), rest, strict=True)]
    plain = {
        "optim": "sgd",
        "weight_decay": 0.0,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_steps": 4,
    }
    args = arguments(folder, **{"max_grad_norm": 0.0, "save_strategy": "no", "max_steps": 4} | plain | options)
    return VideoTrainer(move_from_start(model), args, train_dataset=clips, data_collator=stack)


def stack(samples: list[dict]) -> dict:
    """Collate clips, and the flags that hold for all of them."""
    flags = {"return_loss": True} if "return_loss" in samples[0] else {}
    return default_data_collator([{k: v for k, v in s.items() if k not in flags} for s in samples]) | flags


def boxes_trainer(folder: Path, **options) -> VideoTrainer:
    """One step of 8 clips, by plain descent, of a model whose loss is over boxes: from none to three of a clip."""
    samples = [
        {
            "pixel_values_videos": clip,
            "boxes": detection.BOXES[0],
            "box_mask": torch.arange(3) < number % 4,
            "labels": detection.labels_of((3,)),
        }
        for number, clip in enumerate(mae.clips(8))
    ]
    plain = {"optim": "sgd", "weight_decay": 0.0, "learning_rate": 0.1, "lr_scheduler_type": "constant"}
    args = arguments(folder, max_grad_norm=0.0, save_strategy="no", max_steps=1, **plain, **options)
    return VideoTrainer(detection.detector(), args, train_dataset=samples)


def boxes(folder: Path) -> dict:
    run = boxes_trainer(folder, batch_size=2, gradient_accumulation_steps=2)
    run.train()
    return run.model.state_dict()


def objects(folder: Path) -> dict:
    run = anticipation.anticipation_trainer(folder, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    run.train()
    return run.model.state_dict()


def segments_trainer(folder: Path, **options) -> VideoTrainer:
    """Three steps of 8 videos, by plain descent, of a head whose loss is over the positive points of a step."""
    samples = []
    for number, rows in enumerate(draw(8, 16, actionformer.FEATURES)):
        segments = torch.tensor([[2.0 * n, 2.0 * n + 5 + number] for n in range(number % 4)]).reshape(-1, 2)
        labels = torch.arange(len(segments)) % actionformer.CLASSES
        samples.append(Sample(f"{number}", rows[: 16 - number], segments, labels, FeatureGrid(1, 1, 1)))
    plain = {"optim": "sgd", "weight_decay": 0.0, "learning_rate": 0.1, "lr_scheduler_type": "constant"}
    args = arguments(folder, max_grad_norm=0.0, save_strategy="no", max_steps=3, **plain, **options)
    model = actionformer.head(drop_path_rate=0.0, init_loss_normalizer=20.0)
    return VideoTrainer(model, args, train_dataset=samples, data_collator=collate)


def segments(folder: Path) -> dict:
    run = segments_trainer(folder, batch_size=2, gradient_accumulation_steps=2)
    run.train()
    return run.model.state_dict()


def norms(folder: Path) -> dict:
    """Train both kinds of models with batch norms, by halves of the batch of one process."""
    found = {}
    for dual in (False, True):
        for mode, steps in (("frozen", 4), ("batch", 1)):
            run = norms_trainer(folder / f"{dual}-{mode}", dual, batch_size=4, batch_norm=mode, max_steps=steps)
            run.train()
            found[dual, mode] = run.model.state_dict()
    return found


CASES: dict[str, Callable[[Path], dict]] = {
    function.__name__: function
    for function in (
        ddp,
        shards_read_by_one,
        shards_of_each,
        shards_split_twice,
        fsdp2,
        fsdp2_resumed,
        fsdp2_families,
        fsdp2_scalar,
        norms,
        boxes,
        objects,
        segments,
    )
}


def forget_accelerate() -> None:
    """Undo what a plugin wrote into the environment, where the next Trainer would find it."""
    for name in [name for name in os.environ if name.startswith(("FSDP_", "ACCELERATE_"))]:
        del os.environ[name]


def run_cases(rank: int, folder: Path, processes: int, cases: list[str]) -> None:
    """Be one of several processes on CPUs, as `torchrun` would start it, and save what each case returns."""
    addresses = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}  # not used: the processes meet in a file
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in places.items()} | addresses)
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    for case in cases:
        (folder / case).mkdir(exist_ok=True)
        distributed.barrier()
        torch.save(CASES[case](folder / case), folder / f"{case}-{rank}.pt")
        forget_accelerate()
    distributed.destroy_process_group()
