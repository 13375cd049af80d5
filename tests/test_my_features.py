"""A newcomer plots features of their own videos, by what our pages and `--help` say."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from newcomer import Newcomer
from PIL import Image

PLOT = """
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy
from pathlib import Path
from sklearn.decomposition import PCA

files = sorted(Path("features").rglob("*.npy"))
features = numpy.stack([numpy.load(file).mean(axis=0) for file in files])
points = PCA(2).fit_transform(features)
for folder in sorted({file.parent.name for file in files}):
    chosen = [file.parent.name == folder for file in files]
    plt.scatter(*points[chosen].T, label=folder)
plt.legend()
plt.savefig("plot.png")
print(*features.shape, *points.shape)
"""
LOAD = """
import json, safetensors.numpy
rows = safetensors.numpy.load_file("features/b/1.mp4.safetensors")["features"]
print(json.dumps(rows.tolist()))
"""


@pytest.mark.slow  # imports scikit-learn
@pytest.mark.parametrize("outside", [False, True])
def test_a_newcomer_plots_features_of_their_videos(drawn, tmp_path, monkeypatch, outside):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        Path("videos", "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(drawn[0] / f"test/{number:05d}.mp4", f"videos/{'ab'[number % 2]}/{number}.mp4")
    newcomer = Newcomer(outside)
    command = ("extract", "videos", "--model", "demo-classifier", "--window", 16, "--stride", 16, "--out", "features")
    printed = newcomer.say(*command, "--npy")
    assert printed.splitlines() == [f"features/{name}.mp4.safetensors" for name in ("a/0", "a/2", "b/1")]
    if outside:
        assert newcomer.say(*command, "--npy").count("(already existed)") == 3

    # Clips of 32 frames at 16 a second: windows begin at 0 and 16.
    about = json.loads(Path("features/b/1.mp4.json").read_text())
    assert about["seconds"] == [[0, 1], [1, 2]] and (about["fps"], about["rows"]) == (16, 2)
    assert 'np.load("features/00006.mp4.npy")' in newcomer.pages
    videos, dim, *points = map(int, newcomer.python(PLOT).split())
    assert (videos, points) == (3, [3, 2])
    with Image.open("plot.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
    rows = np.load("features/b/1.mp4.npy")
    assert rows.shape == (2, dim) and np.array_equal(np.float32(json.loads(newcomer.python(LOAD))), rows)
