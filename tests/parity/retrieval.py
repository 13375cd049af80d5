"""Adapters of the retrieval kinds: the fine-tuned model, its texts, and the metrics of both protocols."""

import json
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch.nn.functional import normalize

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.internvideo_mm import TABLE
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.table import convert_state_dict, released_name
from internvideo_hf.inference.ranking import dual_softmax, retrieval_metrics, retrieval_ranks
from internvideo_hf.models.common.losses import contrastive_loss
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors
from parity.internvideo_mm import overrides


def retrieval_model(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    checkpoint = checkpoint_of(folder)
    convert_checkpoint(checkpoint, tmp_path / "model", config_overrides=overrides(config))
    model = InternVideoMMModel.from_pretrained(tmp_path / "model").eval()
    # The masks change nothing: padded frames are encoded, and the one vector of a video is divided by its own weight.
    inputs = ("video", "video_mask", "input_ids", "attention_mask")
    compare = Comparison(stored, inputs)

    video = rearrange(stored["video"], "b 1 t 1 c h w -> b t c h w")
    outputs = model(video, stored["input_ids"][:, 0], return_loss=True)
    compare.close("visual_output", outputs.video_model_output.pooler_output[:, None])
    compare.close("sequence_output", outputs.text_model_output.pooler_output[:, None])
    compare.close("sim_matrix_text_x_video", outputs.logits_per_text)
    compare.close("loss", outputs.loss)
    outputs.loss.backward()
    gradients = {name.removeprefix("grad."): value for name, value in stored.items() if name.startswith("grad.")}
    expected, _ = convert_state_dict(load_state_dict(checkpoint) | gradients, TABLE)
    for name, parameter in model.named_parameters():
        if (released := released_name(name, TABLE)) in gradients:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-5, msg=name)
            compare.open.discard(f"grad.{released}")
    compare.finish()


def retrieval_tokens(folder: Path, tmp_path: Path) -> None:
    processor = InternVideoProcessor(InternVideoVideoProcessor(), build_clip_tokenizer(77))
    for row in json.loads((folder / "tokens.json").read_text()):
        padded = {"padding": "max_length", "max_length": row["max_words"], "truncation": True}
        tokens = processor(text=row["text"], **padded)
        assert len(tokens["input_ids"]) == row["max_words"]
        # Rows of 77 are stored without their padding.
        known = len(row["input_ids"])
        assert tokens["input_ids"] == row["input_ids"] + [0] * (row["max_words"] - known), row["text"]
        assert sum(tokens["attention_mask"]) == row["mask_sum"], row["text"]


def retrieval_metrics_of_both(folder: Path, tmp_path: Path) -> None:
    stored, tables = load_tensors(folder), json.loads((folder / "metrics.json").read_text())
    # Of a loss that no run uses, nothing of ours could be compared.
    inputs = [name for name in stored if name.endswith(("_feats", "multi.sim", "loss.sim", "_unused"))]
    compare = Comparison(stored, tuple(inputs))
    matrices = {name: stored[f"{name}.sim"].numpy() for name in ("single", "multi") if f"{name}.sim" in stored}
    for name, similarity in matrices.items():
        if {f"{name}.text_feats", f"{name}.video_feats"} <= stored.keys():
            texts, videos = (normalize(stored[f"{name}.{side}_feats"], dim=-1) for side in ("text", "video"))
            cosines = texts @ videos.T
            # The factor is stored nowhere exactly: the two differ by a factor alone.
            factor = (cosines * stored[f"{name}.sim"]).sum() / cosines.square().sum()
            torch.testing.assert_close(factor * cosines, torch.from_numpy(similarity), atol=1e-4, rtol=1e-4)
        compare.close(f"{name}.sim", torch.from_numpy(similarity))
        compare.close(f"{name}.dsl", torch.from_numpy(dual_softmax(similarity)))
        compare.close(f"{name}.dsl_T", torch.from_numpy(dual_softmax(similarity.T)))

    assert tables.keys() <= {"single", "multi", "ties"}
    if "single" in tables:
        _check_tables(tables["single"], matrices["single"], ties="each")
    if "multi" in tables:
        ends = tables["multi"].pop("cut_off_points")
        owners = np.repeat(np.arange(len(ends)), np.diff([0, *ends]))
        tables["multi"].pop("recorded", None)
        _check_tables(tables["multi"], matrices["multi"], owners)
    if "ties" in tables:
        _check_ties(tables["ties"])
    if "loss.sim" in stored:
        logits = stored["loss.sim"].clone().requires_grad_()
        loss = contrastive_loss(logits)
        loss.backward()
        compare.close("loss.symmetric_ce", loss)
        compare.close("loss.grad", logits.grad)
    compare.finish()


NAMES = {"R1": "R@1", "R5": "R@5", "R10": "R@10", "MR": "MedR", "MedianR": "MedR", "MeanR": "MeanR"}


def _check_tables(expected: dict[str, dict], *similarity: np.ndarray, **options: str) -> None:
    found, ranks = retrieval_metrics(*similarity, **options), retrieval_ranks(*similarity, **options)
    ways = {"t2v": ("text_to_video", "plain"), "v2t": ("video_to_text", "plain")}
    ways |= {f"dsl_{name}": (direction, "dual_softmax") for name, (direction, _) in ways.items()}
    assert expected.keys() <= ways.keys()
    for name, table in expected.items():
        direction, way = ways[name]
        scores = found[direction][way]
        assert table.keys() <= NAMES.keys() | {"cols", "Std_Rank"}
        if "cols" in table:
            assert ranks[direction][way].tolist() == table["cols"], name
        if "Std_Rank" in table:
            np.testing.assert_allclose(ranks[direction][way].std(), table["Std_Rank"], rtol=1e-12)
        for stored, ours in NAMES.items():
            # Their recalls of several captions are float32.
            if stored in table:
                np.testing.assert_allclose(scores[ours], table[stored], rtol=1e-6, err_msg=f"{name} {stored}")


def _check_ties(entry: dict) -> None:
    matrix, expected = np.array(entry["matrix"]), entry["compute_metrics"]
    found = retrieval_metrics(matrix, ties="each")["text_to_video"]["plain"]
    assert {stored: found[NAMES[stored]] for stored in expected if stored in NAMES} == {
        stored: value for stored, value in expected.items() if stored in NAMES
    }
    if "cols" in expected:
        assert retrieval_ranks(matrix, ties="each")["text_to_video"]["plain"].tolist() == expected["cols"]
    # Ours by default: each query once, behind others of the same similarity as its own.
    behind = (matrix >= matrix.diagonal()[:, None]).sum(axis=1) - 1
    assert retrieval_ranks(matrix)["text_to_video"]["plain"].tolist() == behind.tolist()
