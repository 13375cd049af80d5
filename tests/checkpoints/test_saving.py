"""Writing weights tensor by tensor."""

import pytest
import torch
from safetensors.torch import load_file

from internvideo_hf.checkpoints.saving import CHUNK_SIZE, DTYPE_CODES, check_replaceable, save_safetensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_become_one_type_and_other_numbers_stay(dtype, tmp_path):
    tensors = {
        "matrix": torch.randn(3, 5, dtype=torch.float64).t(),  # not contiguous
        "scalar": torch.tensor(2.5),
        "empty": torch.ones(0, 4),
        "steps": torch.tensor([1, 2**40]),
        "flags": torch.tensor([True, False, True]),
        "long": torch.arange(CHUNK_SIZE + 3, dtype=torch.float32),
    }
    save_safetensors(tensors, tmp_path / "model.safetensors", dtype)
    found = load_file(tmp_path / "model.safetensors")
    expected = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("dtype", DTYPE_CODES, ids=str)
def test_every_number_type_is_read_again(dtype, tmp_path):
    tensor = torch.tensor([0, 1, 1]).to(dtype)
    wanted = dtype if dtype.is_floating_point else torch.float32
    save_safetensors({"a": tensor}, tmp_path / "model.safetensors", wanted)
    found = load_file(tmp_path / "model.safetensors")["a"]
    assert found.dtype == dtype and torch.equal(found, tensor)


def test_tensors_are_computed_in_their_turn(tmp_path):
    shapes, asked = {"a": torch.empty(2, device="meta"), "b": torch.empty(3, device="meta")}, []

    def compute(name):
        asked.append(name)
        return torch.full(shapes[name].shape, float(len(asked)))

    save_safetensors(shapes, tmp_path / "model.safetensors", torch.float32, compute)
    assert load_file(tmp_path / "model.safetensors")["b"].tolist() == [2.0] * 3 and asked == ["a", "b"]


def test_only_the_folder_of_a_model_is_replaced_and_only_when_asked(tmp_path):
    folder = tmp_path / "model"
    check_replaceable(folder, overwrite=False)
    folder.mkdir()
    check_replaceable(folder, overwrite=False)
    (folder / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="exists and is not empty"):
        check_replaceable(folder, overwrite=False)
    with pytest.raises(FileExistsError, match="not a model's folder"):
        check_replaceable(folder, overwrite=True)
    (folder / "config.json").touch()
    check_replaceable(folder, overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        check_replaceable(folder / "notes.txt", overwrite=True)
