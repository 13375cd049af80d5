"""A newcomer labels a stream in Python, by what our pages and `--help` say."""

import json

import pytest
from newcomer import Newcomer

STREAM = """
import io, json, numpy
import internvideo_hf
from transformers import pipeline

classify = pipeline("zero-shot-video-classification", model=internvideo_hf.demo_path("demo-mm"))
labels, files, taken = json.loads({labels!r}), {files!r}, 0

def camera():
    global taken
    for file in files:
        with internvideo_hf.VideoReader(file) as reader:
            for frame in reader.read(range(reader.num_frames)):
                taken += 1
                yield frame

for start, end, frames in internvideo_hf.stream_windows(camera(), window=2, fps=16):
    best = classify(frames, candidate_labels=labels, hypothesis_template="{{}}")[0]
    print(json.dumps([start, end, taken, best["label"]]))

options = dict(candidate_labels=labels, hypothesis_template="{{}}", top_k=1)
whole = classify(files[0], **options)
with open(files[0], "rb") as opened:
    content = opened.read()
with open(files[0], "rb") as opened:
    several = classify([opened, content, io.BytesIO(content)], batch_size=3, **options)
print(json.dumps([answers[0]["label"] for answers in (whole, *several)]))
"""


@pytest.mark.parametrize("outside", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_newcomer_labels_a_stream_as_it_comes(drawn, outside):
    folder, captions = drawn
    newcomer = Newcomer(outside)
    assert "for start, end, seen in internvideo_hf.stream_windows(" in newcomer.pages
    files = [str(folder / f"test/{number:05d}.mp4") for number in range(3)]
    printed = newcomer.python(STREAM.format(labels=json.dumps(captions), files=files))
    *answers, others = map(json.loads, printed.splitlines())
    # The clips are drawn by their captions, 32 frames each: a window is one of them, and comes with its last frame.
    assert answers == [[2 * n, 2 * n + 2, 32 * (n + 1), captions[n]] for n in range(3)]
    assert others == [captions[0]] * 4
