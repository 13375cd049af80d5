"""Refinement of proposals by a TCANet: of a video, in training and in its validation.

The model counts seconds from the beginning of the first row of features, each of `step_seconds`; position 0 of a grid
is the middle of that row.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.data.samples import sample_seed
from internvideo_hf.models.tcanet.losses_tcanet import match_segments
from internvideo_hf.tasks.temporal_localization.data import FeatureDataset, Sample
from internvideo_hf.tasks.temporal_localization.decoding import Detections, decoding_of, suppress
from internvideo_hf.tasks.temporal_localization.proposals import Proposals

_AT_ONCE = 256  # proposals of a forward pass, each of which takes the memory of its samples


def refines(config: PreTrainedConfig) -> bool:
    """Return whether a head refines the segments of another model, rather than localizing by itself.

    Args:
        config: of the head.
    """
    return not getattr(config, "selection", None)


def with_proposals(sample: Sample, proposals: Proposals) -> Sample:
    """Return a sample with the proposals of its video.

    Args:
        sample: a video.
        proposals: of the data set.

    Raises:
        ManifestError: if there are none.
    """
    found = proposals.of(sample.video, sample.duration)
    return sample._replace(proposals=found._replace(segments=sample.grid.from_seconds(found.segments)))


@torch.no_grad()
def refine_proposals(model: PreTrainedModel, rows: torch.Tensor, proposals: Detections) -> Detections:
    """Return better segments for proposals, best first, after suppression.

    A video longer than the model's sequence is read in windows that overlap by half; each proposal is refined in the
    one whose middle is nearest.

    Args:
        model: a TCANet, on its device.
        rows: features of the video, `(length, channels)`.
        proposals: in steps of their grid. Of several classes, those of the same class compete.
    """
    config = model.config
    step, length = config.step_seconds, config.max_sequence_length
    last = max(len(rows) - length, 0)
    starts = torch.tensor([*range(0, last, max(length // 2, 1)), last])
    middles = proposals.segments.mean(dim=1) + 0.5
    nearest = (middles[:, None] - (starts + length / 2)).abs().argmin(dim=1)
    found: list[Detections] = [Detections(*(tensor[:0] for tensor in proposals))]
    for number, start in enumerate(starts.tolist()):
        part = rows[None, start : start + length].to(model.device, model.dtype)
        for chosen in (nearest == number).nonzero()[:, 0].split(_AT_ONCE):
            if not len(chosen):
                continue
            seconds = ((proposals.segments[chosen] - start + 0.5) * step).clamp(min=0)
            outputs = model(part, seconds[None].to(model.device), proposals.scores[chosen][None].to(model.device))
            segments = outputs.segments[-1][0].cpu() / step + start - 0.5
            found.append(Detections(segments, outputs.scores[0].cpu(), proposals.labels[chosen]))
    return _suppressed(Detections(*(torch.cat(parts) for parts in zip(*found, strict=True))), config)


def _suppressed(refined: Detections, config: PreTrainedConfig) -> Detections:
    long = refined.segments[:, 1] > refined.segments[:, 0]  # what is none is padding, or has shrunk to nothing
    several = len(set(refined.labels.tolist())) > 1
    settings = decoding_of(config)[1]
    settings = replace(settings, class_wise=settings.class_wise or several)
    return suppress(Detections(*(tensor[long] for tensor in refined)), settings)


# ---- training -------------------------------------------------------------------------------------------------------


class ProposalDataset(Dataset[Sample]):
    """Videos with proposals.

    Args:
        samples: the videos, whole.
        proposals: of the data set.
        max_length: rows of a training window; longer features are cut at a random place. None for all rows and all
            proposals, as in validation.
        most: the best proposals of a training window.
    """

    def __init__(self, samples: FeatureDataset, proposals: Proposals, max_length: int | None = None, most: int = 64):
        self.samples, self.proposals, self.max_length, self.most = samples, proposals, max_length, most

    def __len__(self) -> int:
        return len(self.samples)

    def set_epoch(self, epoch: int) -> None:
        """Change the windows: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self.samples.set_epoch(epoch)

    def __getitem__(self, index: int) -> Sample:
        sample = with_proposals(self.samples[index], self.proposals)
        if self.max_length is None or sample.proposals is None:
            return sample
        spare = max(len(sample.features) - self.max_length, 0)
        seed = sample_seed(self.samples.seed, self.samples.epoch, index)
        start = random.Random(seed).randint(0, spare) if spare else 0
        middles = sample.proposals.segments.mean(dim=1) - start
        inside = (middles >= -0.5) & (middles < self.max_length - 0.5) if spare else torch.ones_like(middles).bool()
        kept = inside.nonzero()[: self.most, 0]
        chosen = Detections(*(tensor[kept] for tensor in sample.proposals))
        return sample._replace(
            features=sample.features[start : start + self.max_length],
            segments=sample.segments - start,
            proposals=chosen._replace(segments=chosen.segments - start),
        )


def collate_proposals(samples: Sequence[Sample], step_seconds: float) -> dict[str, Any]:
    """Make a batch for a TCANet.

    Args:
        samples: with proposals.
        step_seconds: of the model.

    Returns:
        `features`, `(batch, length, channels)`; `proposals`, `(batch, proposals, 2)` in seconds of the model, and
        `proposal_scores`, `(batch, proposals)`, with rows of zeros at their ends; `labels`, the segments that they
        shall become, likewise; `videos`, their ids.
    """
    columns: dict[str, list[torch.Tensor]] = {"proposals": [], "proposal_scores": [], "labels": []}
    for sample in samples:
        assert sample.proposals is not None
        seconds, truth = (
            ((segments + 0.5) * step_seconds).clamp(min=0) for segments in (sample.proposals.segments, sample.segments)
        )
        columns["proposals"].append(seconds)
        columns["proposal_scores"].append(sample.proposals.scores)
        columns["labels"].append(match_segments(seconds, truth))
    batch: dict[str, Any] = {name: pad_sequence(rows, batch_first=True) for name, rows in columns.items()}
    return {
        "features": pad_sequence([sample.features for sample in samples], batch_first=True),
        **batch,
        "videos": [sample.video for sample in samples],
    }


def decode_refined(outputs: tuple[Any, ...], config: PreTrainedConfig) -> list[Detections]:
    """Return the segments of each video of a batch, in steps of the grid.

    Args:
        outputs: of a TCANet but for the loss, as the Trainer gives them.
        config: of the model.
    """
    *_, segments, _, scores = outputs
    found = []
    for refined, score in zip(segments[-1].float().cpu(), scores.float().cpu(), strict=True):
        labels = torch.zeros(len(score), dtype=torch.long)
        found.append(_suppressed(Detections(refined / config.step_seconds - 0.5, score, labels), config))
    return found


def check_step(config: PreTrainedConfig, features: Mapping[str, Any]) -> None:
    """Refuse features that are not as far apart as a model says.

    Args:
        config: of a TCANet.
        features: what is known of them, with `stride` and `fps`.

    Raises:
        ValueError: naming the right time between them.
    """
    stride, fps = features.get("stride"), features.get("fps")
    if stride and fps and abs(stride / fps - config.step_seconds) > 1e-3 * config.step_seconds:
        raise ValueError(
            f"The rows of the features are {stride / fps:.6g} s apart, and the model's step_seconds is "
            f"{config.step_seconds:.6g}."
        )
