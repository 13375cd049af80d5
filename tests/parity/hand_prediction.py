"""Adapter of the metric of Ego4D's future hand prediction."""

import re
from pathlib import Path

import numpy as np
import pytest

from internvideo_hf.tasks.hand_prediction.annotations import read_hands, read_predictions
from internvideo_hf.tasks.hand_prediction.metrics import displacement_scores
from parity.compare import load_config

# "left hand mean disp error 174.710" in a printed line
_PRINTED = re.compile(r"(?P<hand>left|right) hand (?P<kind>mean|contact) disp error (?P<value>[\d.]+|nan)")


def ego4d_fhp_metric(folder: Path, tmp_path: Path) -> None:
    truth = {clip.name: clip.points for clip in read_hands(folder / "annotations.json", as_published=True)}
    predictions = read_predictions(folder / "predictions.json")
    pairs = [(predicted, truth[name]) for name, predicted in predictions.items()]
    scores = displacement_scores(*map(np.array, zip(*pairs, strict=True)))
    printed = [match for line in load_config(folder)["printed"] for match in _PRINTED.finditer(line)]
    assert printed
    for match in printed:
        name = f"{match['hand']} {'M' if match['kind'] == 'mean' else 'C'}.Disp"
        if match["value"] == "nan":  # of a hand that no clip shows
            assert name not in scores
            continue
        # Printed to three decimals.
        assert scores[name] == pytest.approx(float(match["value"]), abs=5.01e-4), name
