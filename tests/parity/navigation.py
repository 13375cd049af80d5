"""Adapters of the kinds of vision-language navigation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.models.vln_planner.modeling_vln_planner import (
    VLNPlannerForNavigation,
    angle_features,
    observe,
    view_angles,
)
from internvideo_hf.models.vln_waypoints.candidates_vln_waypoints import Candidates, candidates_of, suppress_heatmap
from internvideo_hf.models.vln_waypoints.configuration_vln_waypoints import VLNWaypointsConfig
from internvideo_hf.models.vln_waypoints.modeling_vln_waypoints import VLNWaypointsModel, neighbor_mask
from internvideo_hf.tasks.navigation.metrics import densify, measure, warping_distance
from internvideo_hf.tasks.navigation.paths import RecordedPath
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors

INPUTS = ("video_embedding", "clip_embedding", "depth_embedding")  # of a step
NOTHING = -1e30  # stands for -inf in the cases
# Of words and what follows from them: the stored numbers, of float32, differ by 4e-5 (words) to 6e-5 (states) from the
# same formulas in float64. Scores of attention are large in the tiny model, so that rounding one of them moves its
# probability.
ROUNDING = 1e-4


def planner_overrides(config: dict) -> dict:
    """Return our configuration overrides from the original's sizes."""
    names = {"heads": "num_attention_heads", "clip_dim": "still_size"}
    return {ours: config[theirs] for theirs, ours in names.items() if theirs in config}


def waypoints_overrides(config: dict) -> dict:
    """Return overrides of the predictor, which has as many heads in the cases as the public one."""
    return {"num_attention_heads": config.get("wp_heads", VLNWaypointsConfig.num_attention_heads)}


def vln_planner(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    convert_checkpoint(checkpoint_of(folder), tmp_path / "planner", config_overrides=planner_overrides(config))
    file = folder / "waypoint_predictor.pth"
    convert_checkpoint(file, tmp_path / "waypoints", config_overrides=waypoints_overrides(config))
    planner = VLNPlannerForNavigation.from_pretrained(tmp_path / "planner", attn_implementation="eager")
    waypoints = VLNWaypointsModel.from_pretrained(tmp_path / "waypoints")
    steps = sorted({int(name[4:].partition(".")[0]) for name in stored if name.startswith("step")})
    inputs = tuple(f"step{step}.{name}" for step in steps for name in INPUTS)
    compare = Comparison(stored, ("txt_ids", "txt_masks", *inputs))
    # In float64, so that no error of ours comes on top, which depends on the processor.
    planner.double()
    waypoints.double()
    compare.stored = {name: value.double() if value.is_floating_point() else value for name, value in stored.items()}
    with torch.no_grad():
        Episode(planner, waypoints, compare).run(steps)
    compare.finish()


class Episode:
    """The decisions of a case, one after the other."""

    def __init__(self, planner: VLNPlannerForNavigation, waypoints: VLNWaypointsModel, compare: Comparison):
        self.planner, self.waypoints, self.compare = planner, waypoints, compare
        self.stored = compare.stored
        self.mask = self.stored["txt_masks"].long()
        self.text = planner.encode_text(self.stored["txt_ids"].long(), self.mask)
        compare.close("language.txt_embeds", self.text, atol=ROUNDING)

    def run(self, steps: list[int]) -> None:
        views = self.waypoints.config.num_views
        around = self.stored[f"step{steps[0]}.video_embedding"].unflatten(0, (-1, views))[:, None, :0]
        nothing = torch.zeros(len(self.text), 0, views, self.planner.config.video_size)
        still = torch.zeros(len(self.text), 0, views, self.planner.config.still_size)
        history = self.planner.embed_history(nothing, still, torch.zeros(len(around), 0, 4))
        self.compare.close("history.cls_embed", history[:, 0])
        for number in steps:
            history = torch.cat([history, self.step(number, history)[:, None]], dim=1)

    def step(self, number: int, history: torch.Tensor) -> torch.Tensor:
        """Compare one step, and return the token that the history gains."""
        name, stored, compare = f"step{number}.", self.stored, self.compare
        views = self.waypoints.config.num_views
        # Videos come in the order of the cameras, stills and depth the other way round.
        turned = -torch.arange(views) % views
        video = stored[f"{name}video_embedding"].unflatten(0, (-1, views))
        still = stored[f"{name}clip_embedding"].unflatten(0, (-1, views))[:, turned]
        maps = stored[f"{name}depth_embedding"].unflatten(0, (-1, views))[:, turned]
        depth, rgb = maps.mean(dim=(-2, -1)), self.planner.fuse_views(video, still)
        compare.close(f"{name}fused_rgb_embedding", rgb[:, turned].flatten(0, 1))
        compare.close(f"{name}pano_rgb", rgb)
        compare.close(f"{name}pano_depth", depth)
        compare.close(f"{name}pano_angle_fts", angle_features(view_angles(views)))
        logits = self.waypoints(maps).logits
        compare.close(f"{name}waypoint_heatmap_logits", logits)
        found = candidates_of(suppress_heatmap(logits, self.waypoints.config), self.waypoints.config)
        self.candidates(name, found, rgb, depth)
        self.observation(name, found, rgb, depth)
        outputs = self.planner(
            text_embeds=self.text,
            attention_mask=self.mask,
            video_features=video,
            still_features=still,
            depth_features=depth,
            candidate_views=found.views,
            candidate_angles=found.angles,
            candidate_distances=found.distances,
            candidate_mask=found.mask,
            history_embeds=history,
            output_attentions=True,
        )
        compare.close(f"{name}states", outputs.state, atol=ROUNDING)
        compare.close(f"{name}lang_attention_score", outputs.cross_attentions[-1][:, :, 0], atol=ROUNDING)
        choice = self.decision(name, found, outputs.logits)
        gone = torch.nn.functional.pad(angle_features(found.angles), (0, 0, 0, 1))[torch.arange(len(choice)), choice]
        token = self.planner.embed_history(video[:, None], still[:, None], gone[:, None], first=number)
        token = token[:, -1]
        compare.close(f"{name}history_embed", token)
        return token

    def candidates(self, name: str, found: Candidates, rgb: torch.Tensor, depth: torch.Tensor) -> None:
        for row, real in enumerate(found.mask):
            views = found.views[row][real]
            facts = {
                "img_idxes": views,
                "angles": found.angles[row][real],
                "distances": found.distances[row][real],
                "angle_fts": angle_features(found.angles[row][real]),
                "dis_fts": (found.distances[row][real] / 3)[:, None].expand(-1, 4),
                "rgb": rgb[row][views],
                "depth": depth[row][views],
            }
            for kind, value in facts.items():
                self.compare.close(f"{name}cand_{kind}.{row}", value)

    def observation(self, name: str, found: Candidates, rgb: torch.Tensor, depth: torch.Tensor) -> None:
        seen = observe(rgb, depth, *found)
        parts = {
            "rgb_fts": seen.rgb,
            "dep_fts": seen.depth,
            "ang_fts": seen.angles,
            "dis_fts": seen.distances,
            "nav_types": seen.types.expand_as(seen.mask),
        }
        for part, value in parts.items():
            self.compare.close(f"{name}ob_{part}", self.packed(value, seen.mask))
        self.compare.close(f"{name}ob_lens", seen.mask.sum(dim=1))

    def packed(self, rows: torch.Tensor, mask: torch.Tensor, padding: float = 0.0) -> torch.Tensor:
        """Return what is real of each sample, in its order, and padding behind it, as the original does."""
        return pad_sequence([row[real] for row, real in zip(rows, mask, strict=True)], True, padding)

    def decision(self, name: str, found: Candidates, logits: torch.Tensor) -> torch.Tensor:
        """Compare the scores of a step, and return the choice, of which the last is stopping."""
        mask = torch.nn.functional.pad(found.mask, (0, 1), value=True)
        packed, expected = self.packed(logits, mask, NOTHING), self.stored[f"{name}act_logits"]
        rest = expected.shape[1] - packed.shape[1]
        self.compare.close(
            f"{name}act_logits", torch.nn.functional.pad(packed, (0, rest), value=NOTHING), atol=ROUNDING
        )
        self.compare.close(f"{name}action", packed.argmax(dim=1))
        first = torch.zeros(len(packed), dtype=torch.long)
        self.compare.close(f"{name}il_loss_vs_first_candidate", cross_entropy(packed, first, reduction="sum"))
        return logits.argmax(dim=1)


def vln_waypoint_nms(folder: Path, tmp_path: Path) -> None:
    given, stored = load_config(folder), load_tensors(folder)
    compare = Comparison(stored, ("heatmap_logits",))
    _, angles, distances = stored["heatmap_logits"].shape
    config = VLNWaypointsConfig(num_angles=angles, num_distances=distances)
    if "max_predictions" in given:
        config.max_candidates = given["max_predictions"]
    if "sigma" in given:
        config.suppressed_distances, config.suppressed_angles = map(int, given["sigma"])
    compare.close("nms_map", suppress_heatmap(stored["heatmap_logits"], config))
    if "neighbour_mask" in stored:
        views = stored["neighbour_mask"].shape[-1]
        compare.close("neighbour_mask", (neighbor_mask(torch.zeros(1, views, 1)) == 0).float())
    compare.finish()


METRICS = {
    "distance_to_goal": ("NE", 1),
    "path_length": ("PL", 1),
    "success": ("SR", 100),
    "oracle_success": ("OSR", 100),
    "spl": ("SPL", 100),
    "ndtw": ("nDTW", 100),
    "collisions": ("collisions", 100),
}


def vln_metrics(folder: Path, tmp_path: Path) -> None:
    config = load_config(folder)
    near, step, radius = (config[name] for name in ("success_distance", "densify_step", "fastdtw_radius"))
    for number, episode in enumerate(json.loads((folder / "episodes.json").read_text())):
        path = RecordedPath(
            str(number),
            episode["agent_path"],
            episode["called_stop"],
            episode["distance_to_goal_along_path"],
            episode["collisions"],
            reference=episode["gt_path"],
        )
        positions, reference = np.array(path.positions), np.array(path.reference)
        dense = densify(reference, step)
        np.testing.assert_allclose(dense, episode["gt_dense_path"], atol=1e-9)
        found = {
            name: score / METRICS[name][1]
            for name, score in _by_their_names(measure(path, near, step, radius)).items()
        }
        assert found == pytest.approx(episode["metrics"], abs=1e-9)
        assert warping_distance(positions, dense, radius) == pytest.approx(episode["fastdtw_distance"], abs=1e-9)
        # With a window as wide as the paths, nothing is approximated.
        exact = warping_distance(positions, dense, len(positions) + len(dense))
        assert exact == pytest.approx(episode["exact_dtw_distance"], abs=1e-9)
        assert math.exp(-exact / (len(dense) * near)) == pytest.approx(episode["ndtw_exact_dtw"], abs=1e-9)
    if (file := folder / "camera_orientations.json").is_file():
        orientations = json.loads(file.read_text())
        angles = view_angles(1 + len(orientations)).tolist()[1:]
        ours = {str(round(math.degrees(angle))): [0.0, angle, 0.0] for angle in angles}
        assert {name: pytest.approx(rotation, abs=1e-6) for name, rotation in ours.items()} == orientations


def _by_their_names(scores: dict[str, float]) -> dict[str, float]:
    return {theirs: scores[ours] for theirs, (ours, _) in METRICS.items()}
