"""The wheel holds what the package reads and nothing else, and works where the checkout is not."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

import internvideo_hf

pytestmark = pytest.mark.slow  # builds the package and runs it in processes

NEEDED = ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE")
STAYS = re.compile(r"assets/demo-[a-z]+/(log(-\w+)?\.jsonl|SHA256SUMS)|(.*/)?__pycache__/.*")
"""Files below the package's folder that are in the repository only."""
KINDS = r"\.py|\.yaml|\.json|\.md|\.safetensors|/py\.typed|recipes/labels/\w+\.txt|\.txt\.gz|/LICENSE-CLIP"
USE = """
import json, sys
import internvideo_hf
from transformers import AutoModel, AutoProcessor, pipeline

from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.training.recipes import load_recipe, recipe_names

folder = internvideo_hf.demo_path("demo-mm")
model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
inputs = processor(videos=["demo/test/00006.mp4"], text=["a cross grows"], return_tensors="pt")
shape = list(model(**inputs).logits_per_video.shape)
best = pipeline("video-classification", model=internvideo_hf.demo_path("demo-classifier"))("demo/test/00006.mp4")
data = released_rows(), recipe_names(), vars(load_recipe("videomae/finetune_base")), load_labels("k400")
print(json.dumps([internvideo_hf.__file__, type(model).__name__, shape, min(map(len, data)), best[0]["label"]]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Return a wheel built of a copy, which earlier builds have left nothing in."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in NEEDED:
        (folder / "copy").mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / "copy" / name)
    shutil.copytree(ROOT / "src/internvideo_hf", folder / "copy/src/internvideo_hf")  # caches and all
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    # setuptools of this environment, if it is new enough, or of PyPI.
    have = importlib.metadata.version("setuptools") if importlib.util.find_spec("setuptools") else "0"
    isolated = [] if int(have.split(".")[0]) < 77 else ["--no-build-isolation"]
    done = call(*pip, *isolated, folder / "copy", folder=folder)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory) -> Path:
    """Return the folder of programs of a new environment, whose only package is the wheel; others' are borrowed."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    programs = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)}))
    python = str(programs / Path(sys.executable).name)
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    done = call(*install, wheel, folder=folder)
    assert done.returncode == 0, done.stderr
    own = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    # A line of a .pth file, whose own .pth files are not read: an editable install is not found by it.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def call(*command: object, folder: Path) -> subprocess.CompletedProcess:
    """Run a command in a folder away from the checkout, without its path in the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_what_the_package_reads_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as opened:
        files = [name for name in opened.namelist() if ".dist-info/" not in name]
        about = {name.partition(".dist-info/")[2] for name in opened.namelist()} - {""}
        entry = next(name for name in opened.namelist() if name.endswith("entry_points.txt"))
        assert "internvideo = internvideo_hf.cli:main" in opened.read(entry).decode()
    assert {"METADATA", "RECORD", "licenses/LICENSE", "licenses/NOTICE"} <= about
    package = ROOT / "src/internvideo_hf"
    there = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert sorted(files) == sorted(f"internvideo_hf/{name}" for name in there if not STAYS.fullmatch(name))
    # By kinds, so that a new kind of file is a decision: no logs, states of training, pictures or caches.
    assert [name for name in files if not re.search(rf"({KINDS})$", name)] == []
    assert [name for name in files if re.search(r"trainer_state|training_args|optimizer\.|checkpoint-\d", name)] == []
    assert wheel.stat().st_size < 14e6  # 12.6 MB, of which the six toy models are 10.6


def test_the_wheel_works_away_from_the_checkout(program, tmp_path):
    shown = call(program / "internvideo", "--version", folder=tmp_path)
    assert (shown.returncode, shown.stdout) == (0, f"internvideo {internvideo_hf.__version__}\n"), shown.stderr
    toured = call(program / "internvideo", "demo", "--clips", 8, folder=tmp_path)
    assert toured.returncode == 0, toured.stderr
    assert (tmp_path / "demo/test/00006.mp4").is_file() and (tmp_path / "demo/contact_sheet.png").is_file()
    used = call(program / "python", "-c", USE, folder=tmp_path)
    assert used.returncode == 0, used.stderr
    file, *rest, entries, label = json.loads(used.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(program.parent) and rest == ["InternVideoMMModel", [1, 1]]
    assert entries > 5
    command = ("classify", "demo/test/00006.mp4", "--model", "demo-classifier", "--json")
    classified = call(program / "internvideo", *command, folder=tmp_path)
    assert classified.returncode == 0, classified.stderr
    assert json.loads(classified.stdout)[0]["results"][0]["label"] == label
