"""DDP and FSDP2 with two processes on CPUs: the weights of one process, complete checkpoints, clips read once."""

import copy

import pytest
import torch
from data.settings import write_videos
from forks import run_ranks
from models.internvideo_mae.test_modeling_internvideo_mae_anticipation import anticipation_trainer
from training.processes import CASES as FAMILIES
from training.scaling import (
    CASES,
    RECIPE,
    SAVED_AT,
    STEPS,
    arguments,
    boxes_trainer,
    norms_trainer,
    outcome,
    run_cases,
    segments_trainer,
    trainer,
)
from training.test_processes import whole

from benchmarks.model_memory import model_memory
from internvideo_hf import InternVideoMAEForVideoClassification
from internvideo_hf.data.shards import write_shards

# Half the batch in each process sums its gradients in another order, and Adam divides small ones by their own size.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return the results of two processes for every case, and their folder."""
    folder = tmp_path_factory.mktemp("scaling")
    (folder / "videos").mkdir()
    write_shards(write_videos(folder / "videos", 8), folder / "shards", samples_per_shard=2)
    run_ranks(run_cases, (folder, 2, list(CASES)), 2)
    found = {case: [torch.load(folder / f"{case}-{rank}.pt") for rank in range(2)] for case in CASES}
    return folder, found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with batches twice as large: the same clips in every step."""
    run = trainer(arguments(tmp_path_factory.mktemp("alone"), batch_size=4, **RECIPE))
    start = copy.deepcopy(run.model.state_dict())
    run.train()
    assert any((run.model.state_dict()[name] - tensor).abs().max() > 1e-3 for name, tensor in start.items())
    return run, outcome(run)


@pytest.mark.parametrize("case", ["ddp", "fsdp2", "fsdp2_resumed"])
def test_two_processes_train_the_weights_of_one(case, pair, alone):
    expected = alone[1]
    for part in pair[1][case]:
        for kind in ("weights", "average"):
            assert part[kind].keys() == expected[kind].keys()
            for name, tensor in expected[kind].items():
                torch.testing.assert_close(part[kind][name], tensor, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")
        assert part["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_a_loss_over_boxes_trains_two_processes_and_accumulated_batches_like_one(pair, tmp_path):
    one = boxes_trainer(tmp_path, batch_size=8)
    one.train()
    for part in pair[1]["boxes"]:
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(part[name], tensor, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


def test_losses_over_the_labels_of_boxes_train_two_processes_and_accumulated_batches_like_one(pair, tmp_path):
    one = anticipation_trainer(tmp_path, per_device_train_batch_size=8)
    one.train()
    for part in pair[1]["objects"]:
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(part[name], tensor, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


def test_a_loss_over_points_trains_two_processes_and_accumulated_batches_like_one(pair, tmp_path):
    one, parts = (
        segments_trainer(tmp_path, batch_size=8),
        segments_trainer(tmp_path, batch_size=2, gradient_accumulation_steps=4),
    )
    start = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    for run in (one, parts):
        run.train()
    assert max((one.model.state_dict()[name] - tensor).abs().max() for name, tensor in start.items()) > 1e-3
    assert one.model.loss_normalizer != start["loss_normalizer"]
    for part in (*pair[1]["segments"], parts.model.state_dict()):
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(part[name], tensor, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("dual", [False, True], ids=["classifier", "dual encoder"])
def test_frozen_batch_norms_train_two_processes_like_one(dual, pair, tmp_path):
    one = norms_trainer(tmp_path, dual, batch_size=8, batch_norm="frozen")
    one.train()
    for part in pair[1]["norms"]:
        for name, tensor in one.model.state_dict().items():
            torch.testing.assert_close(part[dual, "frozen"][name], tensor, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("dual", [False, True], ids=["classifier", "dual encoder"])
def test_running_statistics_of_two_processes_are_those_of_all_clips(dual, pair, tmp_path):
    one = norms_trainer(tmp_path, dual, batch_size=8, max_steps=1)
    one.train()
    alone, two = one.model.state_dict(), [part[dual, "batch"] for part in pair[1]["norms"]]
    buffers = [name for name in alone if "batch_norm.running" in name]
    for name in buffers:
        assert torch.equal(two[1][name], two[0][name]), name
    for name in buffers[:2]:  # of the first layer: what later ones see has gone through batch norms, of half the clips
        torch.testing.assert_close(two[0][name], alone[name], **CLOSE)


def test_ddp_and_fsdp2_are_what_they_are_called(pair):
    assert pair[1]["ddp"][0]["type"] == "MULTI_CPU"
    part = pair[1]["fsdp2"][0]
    assert part["sharded"]
    layers = {f"internvideo_mae.layers.{number}" for number in range(2)}
    assert layers | {"", "internvideo_mae.embeddings"} <= set(part["units"])


def test_a_stopped_run_under_fsdp2_goes_on_to_the_same_weights(pair):
    whole_run, resumed = (pair[1][case][0] for case in ("fsdp2", "fsdp2_resumed"))
    for kind in ("weights", "average"):
        for name, tensor in whole_run[kind].items():
            assert torch.equal(resumed[kind][name], tensor), name


def test_a_checkpoint_of_fsdp2_is_loaded_by_from_pretrained_in_full(pair):
    folder, found = pair
    checkpoint = folder / f"fsdp2/out/checkpoint-{STEPS}"
    model, info = InternVideoMAEForVideoClassification.from_pretrained(checkpoint, output_loading_info=True)
    assert not any(info.values()), info
    for name, tensor in found["fsdp2"][0]["weights"].items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert (folder / f"fsdp2_resumed/checkpoint-{SAVED_AT}/average.safetensors").is_file()


def test_groups_of_the_optimizer_stay_those_of_their_names_under_fsdp2(pair, alone):
    groups = [
        {"names": group["names"], "lr_scale": group["lr_scale"], "decayed": group["weight_decay"] > 0}
        for group in alone[0].optimizer.param_groups
    ]
    assert len({group["lr_scale"] for group in groups}) == 4
    for part in pair[1]["fsdp2"]:
        assert all(group.pop("of the names") for group in part["groups"])
        assert part["groups"] == groups


def test_shards_of_fsdp2_take_the_memory_of_the_formula(pair, alone):
    model = alone[0].model
    expected = model_memory(model, strategy="fsdp2", devices=2, average=True)
    # A tensor is cut between its rows: of an odd number of them the first process has one more than the other.
    odd_rows = sum(parameter[0].numel() for parameter in model.parameters() if parameter.shape[0] % 2)
    for name, numbers in (("weights", 1), ("optimizer", 2), ("average", 1)):
        sizes = [part["sizes"][name] for part in pair[1]["fsdp2"]]
        assert sum(sizes) == 4 * numbers * model.num_parameters()
        assert sizes[0] - sizes[1] == 4 * numbers * odd_rows
        assert getattr(expected, name) == pytest.approx(sum(sizes) / 2, abs=4 * numbers)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_have_the_gradients_of_the_whole_batch_in_sharded_layers(family, pair):
    expected, _ = whole(family)
    for part in pair[1]["fsdp2_families"]:
        assert part[family]["units"] and not part[family]["missing"]
        assert part[family]["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(
                part[family]["gradients"][name].reshape(gradient.shape),
                gradient,
                atol=1e-5,
                rtol=1e-4,
                msg=lambda m, n=name: f"{n}: {m}",
            )


def test_dual_encoders_do_not_train_by_fsdp2(pair):
    """A limit of torch's: when it falls, `examples/accelerate` should say so."""
    assert "doesn't support scalar parameters" in pair[1]["fsdp2_scalar"][0]


@pytest.mark.parametrize("case", ["shards_read_by_one", "shards_of_each"])
def test_every_clip_of_the_shards_is_seen_once(case, pair):
    seen = [part["seen"] for part in pair[1][case]]
    assert [[len(batch) for batch in steps] for steps in seen] == [[2, 2], [2, 2]]
    assert sorted(label for steps in seen for batch in steps for label in batch) == list(range(8))


def test_a_split_that_would_lose_clips_is_refused(pair):
    for said in pair[1]["shards_split_twice"]:
        assert "'dispatch_batches': False" in said["by one"]
        assert "repeat=True" in said["ends"]
        assert "rank=args.process_index" in said["other"]
