"""Folders of models that others have made: no code, no other file, no absurd number."""

import ast
import json
import shutil
from pathlib import Path

import forks
import pytest
from program import assert_refused, run
from transformers import AutoModel, AutoProcessor, AutoTokenizer

import internvideo_hf
from internvideo_hf import InternVideoMAEConfig, InternVideoMMConfig, UniFormerV2Config
from internvideo_hf.checkpoints import merge_checkpoints
from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.models.common.loading import load_strict, revision
from internvideo_hf.models.common.overrides import check_overrides
from internvideo_hf.utils.pretrained import check_model_folder, check_sizes, load_pretrained

CODE = 'open({!r}, "w")\n'


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copytree(demo_path("demo-mm"), tmp_path / "model")
    return tmp_path / "model"


def _change(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("config.json", "AutoConfig"),
        ("config.json", "AutoModel"),
        ("tokenizer_config.json", "AutoTokenizer"),
        ("processor_config.json", "AutoProcessor"),
        ("processor_config.json", "AutoVideoProcessor"),
        ("preprocessor_config.json", "AutoImageProcessor"),
    ],
)
def test_code_of_a_folder_is_refused_and_nobody_is_asked(folder, name, kind):
    mark = folder.parent / "it ran"
    (folder / "code.py").write_text(CODE.format(str(mark)) + "class Own: pass\n")
    if not (folder / name).exists():
        (folder / name).write_text("{}")
    _change(folder / name, auto_map={kind: "code.Own" if kind != "AutoTokenizer" else ["code.Own", None]})
    for auto_class in (AutoModel, AutoProcessor, AutoTokenizer):
        with pytest.raises(ValueError, match=rf"{name} names Python code of its own \(auto_map\), which is not run"):
            load_pretrained(auto_class, folder)
    video = ("zero-shot", "a.mp4", "--labels", "a, b", "--model", folder)
    assert_refused(run(*video), "names Python code of its own")
    assert not mark.exists()


def test_yes_on_stdin_runs_nothing(folder):
    mark = folder.parent / "it ran"
    (folder / "code.py").write_text(CODE.format(str(mark)) + "class Own: pass\n")
    _change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Own", None]})
    question = ("zero-shot", "a.mp4", "--labels", "a, b", "--model", folder)
    result = forks.run(forks.PROGRAM, *question, stdin="yes\n" * 100, timeout=60)
    assert result.returncode == 2 and "auto_map" in result.stderr and "[y/N]" not in result.stdout
    assert not mark.exists()


def test_names_on_the_hub_are_loaded_without_their_code():
    class Loader:
        @staticmethod
        def from_pretrained(source, **options):
            return source, options

    assert load_pretrained(Loader, "owner/name", revision="a") == (
        "owner/name",
        {"trust_remote_code": False, "revision": "a"},
    )


def test_nothing_else_loads_from_folders():
    package = Path(internvideo_hf.__file__).parent
    found = []
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "from_pretrained":
                    found.append(f"{file.name}: {ast.unparse(node.func)}")
    assert sorted(found) == [
        "adapters_internvideo.py: InternVideoConfig.from_pretrained",  # inside from_pretrained; runs no code
        "adapters_internvideo.py: super().from_pretrained",
        "base.py: super().from_pretrained",  # inside from_pretrained
        "modeling.py: model_class.config_class.from_pretrained",  # of an exported model; runs no code
        "pretrained.py: auto_class.from_pretrained",
        "processing.py: super().from_pretrained",  # inside from_pretrained
    ]


@pytest.mark.parametrize("value", ["someone/kernels", {"vision_config": "someone/kernels:sub"}])
def test_kernels_on_the_hub_are_refused(folder, value):
    _change(folder / "config.json", attn_implementation=value)
    with pytest.raises(ValueError, match=r"config\.json names code on the Hub"):
        load_strict(AutoModel, folder)


def test_adapters_of_another_model_are_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(ValueError, match="holds the adapters of another model.*merge_and_unload"):
        load_strict(AutoModel, folder)


@pytest.mark.parametrize(
    "elsewhere", ["../other/model.safetensors", "{}/other/model.safetensors", "sub/a.safetensors"]
)
@pytest.mark.parametrize("how", ["model.safetensors.index.json", "pytorch_model.bin.index.json", "config.json"])
def test_weights_elsewhere_are_refused(folder, elsewhere, how):
    elsewhere = elsewhere.format(folder.parent)
    for place in (folder.parent / "other", folder / "sub"):
        place.mkdir()
        shutil.copy(folder / "model.safetensors", place / Path(elsewhere).name)
    if how == "config.json":
        _change(folder / how, transformers_weights=elsewhere)
    else:
        (folder / "model.safetensors").unlink()
        (folder / how).write_text(json.dumps({"metadata": {}, "weight_map": {"logit_scale": elsewhere}}))
    with pytest.raises(ValueError, match=rf"{how} names '.*', expected a file of weights beside it"):
        load_strict(AutoModel, folder)
    with pytest.raises(ValueError, match="expected a file of weights beside it"):
        merge_checkpoints(folder, demo_path("demo-mm"), folder.parent / "out")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("[]", "got a list"),
        ('{"weight_map": 3}', "no weight_map"),
        ("[" * 100_000, "not valid JSON"),
        ("{", "not valid"),
    ],
)
def test_damaged_indexes_are_refused(folder, content, cause):
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=rf"index\.json.*{cause}"):
        load_strict(AutoModel, folder)


def test_the_fingerprint_covers_which_files_are_loaded(folder):
    model = load_strict(AutoModel, folder)
    model.save_pretrained(folder.parent / "shards", max_shard_size="100KB")
    shards = folder.parent / "shards"
    before = revision(shards, model)
    first, other = min(shards.glob("model-*.safetensors")), shards / "other.safetensors"
    shutil.copy(first, other)
    with_other = revision(shards, model)
    index = shards / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(first.name, other.name))
    assert len({before, with_other, revision(shards, model)}) == 3


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000 is out of range, expected 1 to 1000"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1"),
        ({"vision_config": {"num_hidden_layers": 10**9}}, r"vision_config\.num_hidden_layers=1000000000"),
        ({"text_config": {"hidden_size": 10**7}}, r"text_config\.hidden_size=10000000"),
        ({"num_labels": 10**9}, "num_labels=1000000000"),
        ({"image_size": 20_000, "patch_size": 1, "num_frames": 16, "hidden_size": 768}, "too many tokens"),
        ({"num_hidden_layers": 1000, "hidden_size": 100_000}, "too large for a model"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps=nan"),
        ({"vocab_size": float("inf")}, "vocab_size=inf"),
        ({"vocab_size": 10**400}, "vocab_size=1000000"),
        ({"image_mean": [0.5, float("nan"), 0.5]}, "image_mean=nan"),
        ({"exchange_layers": [10**12]}, "exchange_layers=1000000000000"),
    ],
)
def test_absurd_numbers_are_refused_before_anything_is_made(folder, values, message):
    with pytest.raises(ValueError, match=message):
        check_sizes(values)
    _change(folder / "config.json", **values)
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
        load_strict(AutoModel, folder)
    if "expected 1 to 1000" in message:
        with pytest.raises(ValueError, match=r"model\.config\.num_hidden_layers=1000000000"):
            check_overrides(values, UniFormerV2Config, "model.config.")


@pytest.mark.parametrize("config_class", [UniFormerV2Config, InternVideoMAEConfig])
def test_configurations_made_in_python_are_checked(config_class):
    with pytest.raises(Exception, match="validate_architecture") as caught:
        config_class(num_hidden_layers=10**9)
    assert "num_hidden_layers=1000000000 is out of range" in str(caught.value.__cause__ or caught.value)
    with pytest.raises(Exception, match="validate_architecture"):
        InternVideoMMConfig(text_config={"num_hidden_layers": 10**9})


def test_a_configuration_of_a_larger_model_than_the_weights_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    for part, values in (("vision_config", {"hidden_size": 20_000}), ("text_config", {"vocab_size": 9_000_000})):
        _change(folder / "config.json", **{**config, part: {**config[part], **values}})
        with pytest.raises(
            ValueError, match=rf"config\.json describes [\d,]+ weights .*{next(iter(values.values()))}"
        ):
            load_strict(AutoModel, folder)


def test_every_released_size_passes():
    for folder in ("demo-mm", "demo-classifier", "demo-actionformer"):
        check_model_folder(demo_path(folder))
    for size in ("small", "base", "large", "huge", "giant"):
        check_sizes(InternVideoMAEConfig.from_size(size).to_dict())
    check_sizes({"num_hidden_layers": 48, "hidden_size": 3200, "image_size": 448, "patch_size": 14, "num_frames": 64})
