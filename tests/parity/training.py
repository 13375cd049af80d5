"""Adapters of the training kinds: parameter groups, schedules, and optimizer steps through the Trainer."""

import json
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import get_scheduler

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.internvideo_mae import CLASSIFIER, PRETRAINING
from internvideo_hf.checkpoints.families.internvideo_mm import ANSWER_HEAD, ANSWERS, DECODER, decoder_table
from internvideo_hf.checkpoints.families.internvideo_mm import TABLE as MM
from internvideo_hf.checkpoints.table import Table, convert_state_dict, released_name
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import (
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoClassification,
)
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import (
    InternVideoMMForConditionalGeneration,
    InternVideoMMForQuestionAnswering,
    InternVideoMMModel,
)
from internvideo_hf.training.optimizers import BertAdam
from internvideo_hf.training.parameter_groups import parameter_groups
from internvideo_hf.training.schedules import linear_then_cosine, warmup_cosine_of_all
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors
from parity.internvideo_mae import as_ours, overrides


def videomae_param_groups(folder: Path, tmp_path: Path) -> None:
    for case, stored in json.loads((folder / "groups.json").read_text()).items():
        decay = re.search(r"layer_decay(\d+(\.\d+)?)", case)
        weight_decay = max(row["weight_decay"] for row in stored.values())
        pretraining = any(name.startswith("decoder.") for name in stored)
        model, table = model_of_names(stored, pretraining), PRETRAINING if pretraining else CLASSIFIER
        found = {
            released_name(name, table): (group["lr_scale"], group["weight_decay"])
            for group in parameter_groups(model, 1.0, weight_decay, float(decay[1]) if decay else 1.0)
            for name in group["names"]
        }
        expected = {name: (row["lr_scale"], row["weight_decay"]) for name, row in stored.items()}
        assert found.keys() == expected.keys(), case
        for name, (scale, weight_decay) in expected.items():
            assert found[name] == (pytest.approx(scale, rel=1e-12), weight_decay), f"{case}: {name}"


def model_of_names(names, pretraining: bool):
    """Return a model that has these tensors and no others, of any width."""

    def blocks(prefix: str) -> int:
        return 1 + max(int(match[1]) for name in names if (match := re.match(rf"{prefix}blocks\.(\d+)\.", name)))

    config = InternVideoMAEConfig(
        hidden_size=8,
        num_attention_heads=2,
        image_size=16,
        num_frames=4,
        num_hidden_layers=blocks("encoder." if pretraining else ""),
        qkv_bias=any(name.endswith("q_bias") for name in names),
        layer_scale_init_value=0.1 if any(name.endswith("gamma_1") for name in names) else 0.0,
        position_embedding_type="learned" if any(name.endswith("pos_embed") for name in names) else "sinusoidal",
        use_mean_pooling=any(name.startswith("fc_norm.") for name in names),
        decoder_hidden_size=8,
        decoder_num_attention_heads=2,
        decoder_num_hidden_layers=blocks(r"decoder\.") if pretraining else 1,
    )
    return (InternVideoMAEForPreTraining if pretraining else InternVideoMAEForVideoClassification)(config)


def videomae_schedules(folder: Path, tmp_path: Path) -> None:
    for entry in load_config(folder)["entries"]:
        args, stored = entry["args"], np.load(folder / entry["file"])
        total = args["epochs"] * args["niter_per_ep"]
        warmup = args.get("warmup_epochs", 0) * args["niter_per_ep"]
        if warmup and args.get("warmup_steps", 0) > 0:
            warmup = args["warmup_steps"]
        values = [
            linear_then_cosine(
                step,
                total,
                warmup,
                start=args.get("start_warmup_value", 0.0),
                end=args["final_value"],
                peak=args["base_value"],
            )
            for step in range(total)
        ]
        np.testing.assert_allclose(values, stored, rtol=1e-12, atol=0)
        assert (len(stored), stored[0], stored[-1]) == (entry["length"], entry["first"], entry["last"])


class GivenRates(VideoTrainer):
    """Learning rates and weight decays step by step, as a case lists them, in place of a schedule."""

    def __init__(self, *args, rates: list[float], decays: list[float], **kwargs):
        super().__init__(*args, **kwargs)
        self.rates, self.decays = rates, decays

    def create_scheduler(self, num_training_steps, optimizer=None):
        def rate(step: int) -> float:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = self.decays[min(step, len(self.decays) - 1)] if group["weight_decay"] else 0.0
            return self.rates[min(step, len(self.rates) - 1)]

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset=None):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def arguments(tmp_path: Path, **options) -> VideoTrainingArguments:
    return VideoTrainingArguments(
        tmp_path / "run",
        learning_rate=1.0,  # the rates are given, and scaled by layer alone
        weight_decay=0.05,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )


def adam_of(config: dict) -> dict[str, float]:
    first, second = map(float, re.search(r"betas \(([\d.]+),([\d.]+)\)", config["optimizer"]).groups())
    epsilon = re.search(r"eps ([\d.e-]+)", config["optimizer"])
    return {"adam_beta1": first, "adam_beta2": second, "adam_epsilon": float(epsilon[1]) if epsilon else 1e-8}


def compare_weights(compare: Comparison, prefix: str, weights: dict[str, torch.Tensor], table: Table) -> None:
    for name in [name for name in compare.stored if name.startswith(prefix)]:
        ours = convert_state_dict({name.removeprefix(prefix): compare.stored[name]}, table)[0]
        for key, value in ours.items():
            torch.testing.assert_close(
                weights[key], value, atol=1e-5, rtol=1e-5, msg=lambda text, k=key: f"{k}: {text}"
            )
        compare.open.discard(name)


def videomae_finetuning_steps(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    told = overrides(config)
    told |= {"position_image_size": told["image_size"], "position_num_frames": told["num_frames"]}
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=told)
    model = InternVideoMAEForVideoClassification.from_pretrained(tmp_path / "model")
    clips = [
        {"pixel_values_videos": as_ours(stored[f"x{index}"])[row], "labels": int(stored[f"y{index}"][row])}
        for index in range(config["micro_batches"])
        for row in range(len(stored[f"y{index}"]))
    ]
    start = config.get("start_steps", 0)
    trainer = GivenRates(
        model,
        arguments(
            tmp_path,
            **adam_of(config),
            layer_decay=config["layer_decay"],
            label_smoothing_factor=config.get("label_smoothing", 0.0),
            gradient_accumulation_steps=config["update_freq"],
            per_device_train_batch_size=len(stored["y0"]),
            max_steps=config["steps_per_epoch"],
            max_grad_norm=config.get("clip_grad_norm") or 0.0,
            ema_decay=config.get("ema_decay"),
        ),
        train_dataset=clips,
        rates=config["lr"][start:],
        decays=config["wd"][start:],
    )
    loss = trainer.train().training_loss
    compare = Comparison(stored, inputs=tuple(name for name in stored if re.fullmatch(r"[xy]\d+", name)))
    compare_weights(compare, "after.", model.state_dict(), CLASSIFIER)
    if any(name.startswith("ema.") for name in stored):
        compare_weights(compare, "ema.", trainer.average.tensors, CLASSIFIER)
    compare.finish()
    if "mean_loss" in config:
        assert loss == pytest.approx(config["mean_loss"], rel=1e-5)


def videomae_pretraining_steps(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=overrides(config))
    model = InternVideoMAEForPreTraining.from_pretrained(tmp_path / "model")
    steps = config["epochs"] * config["steps_per_epoch"]
    clips = [
        {"pixel_values_videos": as_ours(stored[f"x{index}"])[row], "bool_masked_pos": stored[f"mask{index}"][row]}
        for index in range(steps)
        for row in range(len(stored[f"x{index}"]))
    ]
    trainer = GivenRates(
        model,
        arguments(
            tmp_path,
            **adam_of(config),
            per_device_train_batch_size=len(stored["x0"]),
            max_steps=steps,
            max_grad_norm=config.get("clip_grad_norm") or 0.0,
        ),
        train_dataset=clips,
        rates=config["lr"],
        decays=config["wd"],
    )
    trainer.train()
    compare = Comparison(stored, inputs=tuple(name for name in stored if re.fullmatch(r"(x|mask)\d+", name)))
    compare_weights(compare, f"after{steps}.", model.state_dict(), PRETRAINING)
    compare.finish()
    if "mean_loss_per_epoch" in config:
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        means = np.reshape(losses, (config["epochs"], -1)).mean(axis=1)
        np.testing.assert_allclose(means, config["mean_loss_per_epoch"], rtol=1e-5)


def retrieval_optimizer(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    settings = re.findall(r"([\d.]+) \(wd ([\d.]+)\)", config["note"])
    total, share = re.search(r"t_total (\d+), warmup ([\d.]+)", config["note"]).groups()
    compare = Comparison(stored, inputs=tuple(name for name in stored if name.startswith("g")))
    for number, (rate, decay) in enumerate(settings, start=1):
        parameter = torch.nn.Parameter(stored[f"p{number}.0"].clone())
        optimizer = BertAdam([parameter], lr=float(rate), weight_decay=float(decay))
        steps = sum(name.startswith(f"g{number}.") for name in stored)
        for step in range(steps):
            compare.close(f"p{number}.{step}", parameter)
            optimizer.param_groups[0]["lr"] = warmup_cosine_of_all(
                step, int(total), float(share) * int(total), peak=float(rate)
            )
            parameter.grad = stored[f"g{number}.{step}"].clone()
            optimizer.step()
        compare.close(f"p{number}.{steps}", parameter)
    compare.finish()

    expected = json.loads((folder / "groups.json").read_text())
    width, text = config["vision_width"], config["text_width"]
    model = InternVideoMMModel(
        InternVideoMMConfig(
            projection_dim=config["embed_dim"],
            vision_config={
                "hidden_size": width,
                "num_hidden_layers": config["vision_layers"],
                "num_attention_heads": config["vision_heads"],
                "num_global_attention_heads": config["n_head"],
                "global_layers": config["return_list"],
                "image_size": config["image_size"],
                "patch_size": config["patch_size"],
            },
            text_config={
                "hidden_size": text,
                "intermediate_size": 4 * text,
                "num_hidden_layers": config["text_layers"],
                "num_attention_heads": config["text_heads"],
                "vocab_size": config["vocab_size"],
                "max_position_embeddings": config["context_length"],
            },
        )
    )
    base, factor = map(float, re.search(r"lr=([\de.-]+) coef_lr=([\de.-]+)", config["note"]).groups())
    decay = max(row["weight_decay"] for row in expected["groups"])
    found = {
        released_name(name, MM): (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, base * factor, decay, rule="retrieval")
        for name in group["names"]
    }
    stored_groups = {name: (row["lr"], row["weight_decay"]) for row in expected["groups"] for name in row["names"]}
    assert found.keys() == stored_groups.keys()
    for name, (rate, decay) in stored_groups.items():
        assert found[name] == (pytest.approx(rate, rel=1e-9), decay), name
    for key in expected:
        if match := re.fullmatch(r"frozen_with_freeze_layer_num_(\d+)", key):
            lower = [group for group in model.layer_groups() if re.fullmatch(r"(vision|text)\.layers\.\d+", group)]
            lower = [group for group in lower if int(group.rpartition(".")[2]) < int(match[1])]
            copied = deepcopy(model)
            copied.freeze_backbone("vision.embeddings", "vision.fusion", "text.embeddings", "head.vision", *lower)
            frozen = {
                released_name(name, MM) for name, weight in copied.named_parameters() if not weight.requires_grad
            }
            assert frozen == set(expected[key])


def mm_optimizer_groups(folder: Path, tmp_path: Path) -> None:
    """Check the groups of the case's model, and both schedules."""
    stored = json.loads((folder / "groups.json").read_text())
    config, rows = stored["config"], stored["groups"]
    expected = {name: (row["initial_lr"], row["weight_decay"]) for row in rows for name in row["names"]}

    def blocks(place: str) -> int:
        return 1 + max(int(match[1]) for name in expected if (match := re.match(rf"{place}\.(\d+)\.", name)))

    def has(part: str) -> bool:
        return any(name.startswith(part) for name in expected)

    layers = blocks(r"clip\.visual\.transformer\.resblocks")
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 16, "patch_size": 8, "num_hidden_layers": layers}
    vision["global_layers"] = list(range(layers - blocks(r"clip\.visual\.transformer\.dec"), layers))
    text = {**sizes, "num_hidden_layers": blocks(r"clip\.transformer\.resblocks"), "vocab_size": 16}
    parts = {"vision_config": vision, "text_config": text, "projection_dim": 8, "num_labels": 3}
    if has(DECODER):
        depth = blocks(rf"{DECODER}multimodal_layers".replace(".", r"\."))
        parts["decoder_config"] = {**sizes, "encoder_hidden_size": 8, "num_hidden_layers": depth}
    if has(ANSWERS):
        model_class = InternVideoMMForQuestionAnswering
    else:
        model_class = InternVideoMMForConditionalGeneration if has(DECODER) else InternVideoMMModel
    model = model_class(InternVideoMMConfig(**parts))
    table = MM | decoder_table([1] * 5) | ANSWER_HEAD
    groups = parameter_groups(
        model, config["lr"], config["weight_decay"], rule="internvideo_mm", head_scale=config.get("lr_mult", 1)
    )
    found = {
        released_name(name, table): (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]
    }
    if model_class is InternVideoMMForQuestionAnswering:
        # The original keeps it as a parameter that nothing reads, and that hence never changes.
        assert expected.pop("clip.logit_scale", (config["lr"], 0.0)) == (config["lr"], 0.0)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name

    for kind, key in (("linear", "lr_per_step_polynomial_power1"), ("cosine", "lr_group0_cosine")):
        if key not in stored:
            continue
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], config["lr"])
        warmup = config["warmup_steps"]  # a share of the steps, or their number
        warmup = round(warmup * config["max_steps"]) if isinstance(warmup, float) and warmup < 1 else int(warmup)
        schedule = get_scheduler(kind, optimizer, warmup, config["max_steps"])
        rates = []
        for _ in range(config["max_steps"]):
            rates += schedule.get_last_lr()
            optimizer.step()
            schedule.step()
        for step, rate, *_ in stored[key]:
            assert rates[step] == pytest.approx(rate, rel=1e-9, abs=1e-18), (kind, step)
