"""Two small classifiers as folders, and the model fused of them."""

from pathlib import Path

import pytest
import torch
from models.internvideo.test_modeling_internvideo import LABELS, MAE, UNIFORMERV2
from models.model_checks import draw, move_from_start

from internvideo_hf import (
    InternVideoForVideoClassification,
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two classifiers as folders; the UniFormerV2 has what must rest while it is frozen: batch norm and drop path."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    mae = move_from_start(InternVideoMAEForVideoClassification(InternVideoMAEConfig(**MAE, id2label=LABELS)))
    uniformerv2 = UniFormerV2ForVideoClassification(UniFormerV2Config(**UNIFORMERV2, id2label=LABELS))
    move_from_start(uniformerv2, seed=1)
    for name, buffer in uniformerv2.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(draw(*buffer.shape))
    mae.save_pretrained(folder / "mae")
    uniformerv2.save_pretrained(folder / "uniformerv2")
    return folder / "mae", folder / "uniformerv2"


@pytest.fixture
def fused(encoders: tuple[Path, Path]) -> InternVideoForVideoClassification:
    torch.manual_seed(0)
    return InternVideoForVideoClassification.from_encoders(*encoders, cross_attention_head_size=8)
