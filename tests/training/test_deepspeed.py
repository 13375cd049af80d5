"""DeepSpeed on CPUs: ZeRO-1, 2 and 3 train, save, resume, and give the weights of one process without it."""

import pytest
import torch
from forks import run_ranks

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install 'internvideo-hf[deepspeed]'")
from training.deepspeed_runs import BATCH, OPTIONS, STAGES, STOPPED_AT, run_stages, tiny_model  # noqa: E402
from training.processes import CASES as FAMILIES  # noqa: E402
from training.processes import build  # noqa: E402
from training.scaling import CLIPS, RECIPE, STEPS  # noqa: E402

from benchmarks.model_memory import model_memory  # noqa: E402
from internvideo_hf import InternVideoMAEForVideoClassification  # noqa: E402
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments  # noqa: E402

# Shares sum their gradients in another order, and Adam divides small ones by their own size.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


# A single process is the simpler half of what two do.
@pytest.fixture(
    scope="module",
    params=[pytest.param(1, id="one process", marks=pytest.mark.slow), pytest.param(2, id="two processes")],
)
def stages(request, tmp_path_factory):
    """Return the results of each process for every stage, and their folder."""
    folder = tmp_path_factory.mktemp(f"deepspeed{request.param}")
    tiny_model().save_pretrained(folder / "start")
    run_ranks(run_stages, (folder, request.param), request.param)
    ranks = range(request.param)
    return folder, {stage: [torch.load(folder / f"stage{stage}-{rank}.pt") for rank in ranks] for stage in STAGES}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process without DeepSpeed, with the whole batch."""
    options = OPTIONS | {"ema_decay": RECIPE["ema_decay"], "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    args = VideoTrainingArguments(tmp_path_factory.mktemp("alone"), per_device_train_batch_size=BATCH, **options)
    run = VideoTrainer(tiny_model(), args, train_dataset=CLIPS)
    run.train()
    return run


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["whole", "resumed"])
def test_weights_are_those_of_one_process(kind, stage, stages, alone):
    for part in stages[1][stage]:
        assert part[kind]["engine"] == "DeepSpeedEngine" and part[kind]["partitioned"] == (stage == 3)
        expected = dict(alone.model.named_parameters()) | dict(alone.model.named_buffers())
        assert part[kind]["weights"].keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(
                part[kind]["weights"][name], tensor.detach(), **CLOSE, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stopped_run_goes_on_to_the_same_weights(stage, stages):
    for part in stages[1][stage]:
        for name, tensor in part["whole"]["weights"].items():
            assert torch.equal(part["resumed"]["weights"][name], tensor), name


@pytest.mark.parametrize("stage", STAGES)
def test_rates_by_layer_reach_the_optimizer(stage, stages, alone):
    expected = [(group["lr_scale"], group["weight_decay"] > 0) for group in alone.optimizer.param_groups]
    assert stages[1][stage][0]["whole"]["groups"] == expected


@pytest.mark.parametrize("stage", STAGES)
def test_optimizer_takes_the_memory_of_the_formula(stage, stages):
    parts = stages[1][stage]
    expected = model_memory(tiny_model(), strategy=f"zero{stage}", devices=len(parts)).optimizer
    for part in parts:  # shares are filled up to even lengths
        assert part["whole"]["optimizer bytes"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("stage", STAGES)
def test_checkpoints_are_loaded_by_from_pretrained_in_full(stage, stages):
    folder, found = stages
    for step in (STOPPED_AT, STEPS):
        checkpoint = folder / f"stage{stage}/whole/checkpoint-{step}"
        model, info = InternVideoMAEForVideoClassification.from_pretrained(checkpoint, output_loading_info=True)
        assert not any(info.values()), info
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[stage][0]["whole"]["weights"][name], tensor), name


def test_average_is_kept_by_stages_1_and_2_and_refused_by_3(stages, alone):
    for stage in (1, 2):
        for part in stages[1][stage]:
            for kind in ("whole", "resumed"):
                for name, tensor in alone.average.tensors.items():
                    torch.testing.assert_close(part[kind]["average"][name], tensor, **CLOSE)
    assert "use FSDP2 or ZeRO-2" in stages[1][3][0]["refused"]


SCALED = ("dual_encoder", "captioner", "viclip_with_doubled_captions")  # whose temperature is a scalar


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in SCALED])
def test_models_built_in_shares_start_as_whole_ones_do(family, stages):
    model, _ = build(family)
    torch.manual_seed(0)
    whole = type(model)._from_config(model.config)
    expected = dict(whole.named_parameters()) | dict(whole.named_buffers())
    found = stages[1][3][0]["fresh"][family]
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        fresh, tensor = found[name], tensor.detach()
        assert fresh.shape == tensor.shape, name
        if name.endswith("positions.table") or tensor.unique().numel() == 1:
            assert torch.equal(fresh, tensor), name
        elif tensor.numel() > 200:  # enough numbers to tell their spread
            assert fresh.std().item() == pytest.approx(tensor.std().item(), rel=0.25), name


def test_dual_encoders_do_not_train_by_deepspeed(stages):
    """A limit of DeepSpeed's: when it falls, `examples/accelerate` should say so."""
    for stage in (1, 2):
        assert "dim() cannot be 0" in stages[1][stage][0]["dual encoder"]
    for family in SCALED:
        assert "dim() cannot be 0" in stages[1][3][0]["fresh"][family]
