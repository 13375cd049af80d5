"""A published model is found by the tools of others: each loads it in a process of its own, and gives our embeddings.

The Hub is a local server. Plain transformers, sentence-transformers and mteb load the folder from there, with
`import internvideo_hf` and without.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from program import run
from repositories import Repositories, serve
from transformers import AutoModel, AutoProcessor

from internvideo_hf import demo_path
from internvideo_hf.inference.embedder import Embedder

pytestmark = pytest.mark.slow  # a minute or two, for the imports of ten processes

TRANSFORMERS = """
import json, sys
import torch
from transformers import AutoModel, AutoProcessor

videos, texts, options = json.loads(sys.argv[1])
model = AutoModel.from_pretrained("you/mm", **options)
processor = AutoProcessor.from_pretrained("you/mm", **options)
inputs = processor(videos=videos, text=texts, return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
print(json.dumps([outputs.video_embeds.tolist(), outputs.text_embeds.tolist()]))
"""
SENTENCES = """
import json, sys
from sentence_transformers import SentenceTransformer

videos, texts, options = json.loads(sys.argv[1])
model = SentenceTransformer("you/mm", device="cpu", **options)
assert set(model.modalities) == {"text", "video"}
print(json.dumps([model.encode(videos).tolist(), model.encode(texts).tolist()]))
"""
MTEB = """
import json, sys
from pathlib import Path
from evaluation.mteb_tasks import DrawnRetrieval
from internvideo_hf.evaluation.mteb_run import evaluate_on_mteb

videos, texts, out = json.loads(sys.argv[1])
outcome = evaluate_on_mteb("you/mm", DrawnRetrieval(list(map(Path, videos)), texts), out, device="cpu", quiet=True)
print(json.dumps([outcome.model, outcome.scores[0].value]))
"""
# mteb's own loading, of texts: of videos it asks for torchcodec, and its collators choose the frames.
MTEB_ALONE = """
import json, sys
import mteb
import mteb.mocks.mock_tasks as mocks
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("you/mm", device="cpu", trust_remote_code=True)
result = mteb.evaluate(model, mocks.MockSTSTask(), cache=mteb.ResultCache(sys.argv[1]), co2_tracker=False)
print(json.dumps([result.model_name, result.task_results[0].get_score()]))
"""
# In the place of tasks with the names on the page, which would be fetched, small ones are known to mteb.
PAGE = """
import mteb
from evaluation.mteb_tasks import renamed

mteb.get_tasks = renamed
"""
IMPORT = "import internvideo_hf\n"
# As where the package is not installed: it cannot be imported, and nothing is known of it.
HIDE = """
import importlib.metadata, sys
sys.modules["internvideo_hf"] = None
found = importlib.metadata.Distribution.from_name

def from_name(name):
    if name == "internvideo-hf":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)

importlib.metadata.Distribution.from_name = from_name
"""


def commands(start: str) -> list[list[str]]:
    """Return the words behind "internvideo" of the page's commands that begin so."""
    lines = (ROOT / "docs/hub.md").read_text().splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(start)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Publish the toy model of video and text, and return the environment of processes that find it."""
    from huggingface_hub import constants

    folder, home = tmp_path_factory.mktemp("model") / "mm", tmp_path_factory.mktemp("home")
    AutoModel.from_pretrained(demo_path("demo-mm")).save_pretrained(folder)
    AutoProcessor.from_pretrained(demo_path("demo-mm")).save_pretrained(folder)
    (folder / "README.md").write_bytes((demo_path("demo-mm") / "README.md").read_bytes())
    published = Repositories()
    with serve(published) as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", address)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", "hf_you")
        published["others/mm"] = {}
        published.foreign.add("others/mm")
        patch.chdir(folder.parent)
        for command in commands("internvideo push"):  # of the page
            done = run(*command)
            assert done.returncode == 0, done.stderr
        assert set(published) == {"you/mm", "you/mm@trial", "others/mm", "others/mm@refs/pr/1"}
        assert published.visibility == {"you/mm": "private"}
        assert {"modules.json", "internvideo_loader.py", "model.safetensors"} < set(published["you/mm"])
        settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        yield {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def videos(drawn: tuple[Path, list[str]]) -> list[str]:
    return [str(file) for file in sorted((drawn[0] / "test").glob("*.mp4"))]


@pytest.fixture(scope="module")
def expected(videos: list[str], drawn: tuple[Path, list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return our embeddings of the videos and of their captions."""
    own = Embedder("demo-mm", device="cpu")
    return torch.cat([own.embed_video(video) for video in videos]).numpy(), own.embed_texts(drawn[1]).numpy()


def fresh(
    code: str, hub: dict[str, str], *arguments: object, folder: Path | None = None
) -> subprocess.CompletedProcess:
    """Run code in an interpreter of its own, of which nobody answers questions."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=hub, cwd=folder, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("library", [TRANSFORMERS, SENTENCES], ids=["transformers", "sentence-transformers"])
@pytest.mark.parametrize("imported", [True, False], ids=["imported", "trusted"])
def test_it_gives_our_embeddings(hub, videos, drawn, expected, library, imported):
    options = {} if imported else {"trust_remote_code": True}
    code = IMPORT + library if imported else library
    done = fresh(code, hub, json.dumps([videos, drawn[1], options]))
    assert done.returncode == 0, done.stderr
    for actual, wanted in zip(json.loads(done.stdout.splitlines()[-1]), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)


MISSING = {
    "transformers, not trusted": (TRANSFORMERS, "", {}, "trust_remote_code=True"),
    "transformers, not installed": (TRANSFORMERS, HIDE, {"trust_remote_code": True}, "pip install internvideo-hf"),
    "sentence-transformers, not trusted": (SENTENCES, "", {}, "trust_remote_code=True"),
    "sentence-transformers, not installed": (SENTENCES, HIDE, {}, 'pip install -U "internvideo-hf"'),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing_is_named(hub, case):
    library, before, options, words = MISSING[case]
    done = fresh(before + library, hub, json.dumps([[], [], options]))
    assert done.returncode != 0 and words in done.stderr, done.stderr


def test_mteb_scores_it_and_reads_the_results(hub, videos, drawn, expected, tmp_path):
    mteb = pytest.importorskip("mteb", reason="needs the extra mteb")
    from evaluation.mteb_tasks import ndcg

    done = fresh(MTEB, hub, json.dumps([videos, drawn[1], str(tmp_path)]))
    assert done.returncode == 0, done.stderr
    model, score = json.loads(done.stdout.splitlines()[-1])
    assert (model, score) == ("you/mm", pytest.approx(ndcg(expected[1] @ expected[0].T), abs=1e-4))
    (found,) = mteb.ResultCache(tmp_path).load_results().model_results
    assert found.model_name == "you/mm" and [one.get_score() for one in found.task_results] == [score]

    alone = fresh(MTEB_ALONE, hub, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    (found,) = mteb.ResultCache(tmp_path / "alone").load_results().model_results
    model, score = json.loads(alone.stdout.splitlines()[-1])
    assert (found.model_name, found.task_results[0].get_score()) == (model, pytest.approx(score, abs=1e-6))


def test_the_page_is_right(hub, videos, tmp_path, monkeypatch):
    mteb = pytest.importorskip("mteb", reason="needs the extra mteb")
    from evaluation.mteb_tasks import named, renamed
    from mteb.benchmarks.benchmark import Benchmark

    shutil.copytree(demo_path("demo-mm"), tmp_path / "mm")
    shutil.copy(videos[0], tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mteb, "get_tasks", renamed)
    monkeypatch.setattr(mteb, "get_benchmarks", lambda: [Benchmark(name="MVEB(text, video)", tasks=renamed())])
    asked = commands("internvideo evaluate")
    assert len(asked) == 2
    for command in asked:
        done = run(*command, "--device", "cpu")
        assert done.returncode == 0, done.stderr
    assert {file.stem for file in (tmp_path / "mveb/results").rglob("*.json")} == {*named(renamed()), "model_meta"}

    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/hub.md").read_text(), re.M | re.S)
    says = "print(similarity.shape, result.task_results[0].task_name, meta.name)"
    done = fresh("\n".join([PAGE, *blocks, says]), hub, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "torch.Size([1, 1]) MSVDV2TRetrieval OpenGVLab/ViCLIP-L-14-InternVid-10M-FLT"
    )
