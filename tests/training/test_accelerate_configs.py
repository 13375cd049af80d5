"""`examples/accelerate`: the installed Accelerate understands every key of every file."""

import os
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from torch.distributed.fsdp import StateDictType

FOLDER = Path(__file__).parents[2] / "examples/accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))


def launched(file: Path) -> dict[str, str]:
    """Return the environment that `accelerate launch` sets for the processes."""
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(file), "train.py"]))
    if not args.use_deepspeed:
        return prepare_multi_gpu_env(args)
    # As accelerate's `launch_command` notes before.
    args.deepspeed_fields_from_accelerate_config = ",".join(load_config_from_file(str(file)).deepspeed_config)
    return prepare_deepspeed_cmd_env(args)[1]


def test_there_is_a_file_for_every_strategy():
    assert {file.stem for file in FILES} == {"ddp", "fsdp2", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_knows_every_key(file, tmp_path):
    config = load_config_from_file(str(file))
    assert config.mixed_precision is None  # it is the training arguments'
    options = {action.dest for action in launch_command_parser()._actions}
    assert not {*config.fsdp_config, *config.deepspeed_config} - options
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(file.read_text() + "zero_stagee: 2\n")
    with pytest.raises(ValueError, match="unknown keys"):
        load_config_from_file(str(wrong))


def test_fsdp2_reaches_the_processes(monkeypatch):
    for name, value in launched(FOLDER / "fsdp2.yaml").items():
        monkeypatch.setenv(name, value)
    assert os.environ["ACCELERATE_USE_FSDP"] == "true" and os.environ["ACCELERATE_MIXED_PRECISION"] == "no"
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.state_dict_type == StateDictType.FULL_STATE_DICT
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert plugin.transformer_cls_names_to_wrap is None  # the model's own list
    assert not plugin.cpu_ram_efficient_loading and not plugin.activation_checkpointing


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_reaches_the_processes(stage):
    environment = launched(FOLDER / f"deepspeed_zero{stage}.yaml")
    assert environment["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == str(stage)
    for name in ("GRADIENT_ACCUMULATION_STEPS", "GRADIENT_CLIPPING"):
        assert environment[f"ACCELERATE_{name}"] == "auto"
    if stage == 3:
        assert environment["ACCELERATE_DEEPSPEED_ZERO3_INIT"] == "true"
        assert environment["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"


def test_ddp_is_nothing_else():
    assert not {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"} & set(launched(FOLDER / "ddp.yaml"))
