"""Adapter of weight averaging: `mm_wiseft`."""

from pathlib import Path

from safetensors.torch import load_file

from internvideo_hf.checkpoints import convert_checkpoint, merge_checkpoints
from internvideo_hf.checkpoints.families.internvideo_mm import table_for
from internvideo_hf.checkpoints.merging import is_averaged, merge_tensors
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.table import convert_state_dict, released_name
from parity.compare import Comparison, load_config, load_tensors
from parity.internvideo_mm import overrides


def mm_wiseft(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    trained = sorted([*folder.glob("checkpoint.*"), *folder.glob("finetuned*")])
    assert len(trained) == config.get("n_load_paths", len(trained))
    for file in (folder / "base_clip_state.safetensors", *trained):
        convert_checkpoint(file, tmp_path / file.stem, config_overrides=overrides(config))
    averaged = merge_checkpoints(
        tmp_path / "base_clip_state",
        [tmp_path / file.stem for file in trained],
        tmp_path / "merged",
        weight=config["clip_wiseft_coef"],
    )
    merged = load_file(tmp_path / "merged/model.safetensors")
    assert averaged == sum(is_averaged(name, "internvideo_mm") for name in merged)
    table = table_for(stored)
    names = {name: released_name(name, table) for name in merged}
    found = {released for name, released in names.items() if is_averaged(name, "internvideo_mm")}
    assert found == set(config.get("interpolated_keys", found))

    expected, left_out = convert_state_dict(stored, table)
    compare = Comparison(expected)
    for name, tensor in merged.items():
        compare.close(name, tensor)
    compare.finish()

    # What has no place in the model follows the same rule, the mean of the trained files.
    compare = Comparison({name: stored[name] for name in left_out})
    files = [load_state_dict(file) for file in trained]
    for name in left_out:
        compare.close(name, merge_tensors(None, [file[name] for file in files], config["clip_wiseft_coef"]))
    compare.finish()
    if "kept_from_finetuned" in config:
        kept = {released for name, released in names.items() if not is_averaged(name, "internvideo_mm")}
        assert {*left_out, *kept} == set(config["kept_from_finetuned"])
