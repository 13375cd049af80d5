"""Scores: those of the models themselves."""

import pytest
import torch
from safetensors.torch import save_file

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.curation.scores import AestheticHead, Aesthetics, Similarity
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.video.errors import VideoDecodeError


def test_similarity_is_the_cosine_of_clip_and_caption(shots):
    stage = Similarity(shots.parent, str(demo_path("demo-mm")), "cpu")
    rows = [{"clip": shots.name, "caption": "a red square"}, {"clip": "none.mp4", "caption": "x"}]
    good, gone, mute = stage.run([*rows, {"clip": shots.name, "caption": None}])
    embedder = Embedder(demo_path("demo-mm"), "cpu")
    expected = embedder.embed_video(shots)[0] @ embedder.embed_texts(["a red square"])[0]
    assert good["similarity"] == pytest.approx(float(expected), abs=2e-6)
    assert isinstance(gone, VideoDecodeError) and mute.cause == "it has no caption"
    assert [type(one) for one in stage.run(rows[1:])] == [VideoDecodeError]


def test_models_without_texts_are_refused(mae_folder):
    with pytest.raises(ValueError, match="Give another --similarity"):
        Similarity(mae_folder, str(mae_folder), "cpu").load()


@pytest.fixture
def head(tmp_path):
    tensors = {
        f"layers.{n}.{name}": torch.randn(*size)
        for n, size in ((10, (1, 3)), (2, (3, 8)))
        for name, size in (("weight", size), ("bias", size[:1]))
    }
    save_file(tensors, tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors", tensors


def test_the_aesthetic_score_is_the_head_on_the_mean_of_frames(clip, head, shots):
    path, tensors = head
    stage = Aesthetics(shots.parent, str(clip), path, frames=2, device="cpu")
    good, gone = stage.run([{"clip": shots.name}, {"clip": "none.mp4"}])
    model, processor, _ = stage._parts
    from internvideo_hf.data.thumbnails import spread_pictures

    pixels = processor(images=spread_pictures(str(shots), 2), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        features = model.get_image_features(pixel_values=pixels).pooler_output
    features = features / features.norm(dim=-1, keepdim=True)
    hidden = features @ tensors["layers.2.weight"].T + tensors["layers.2.bias"]
    expected = (hidden @ tensors["layers.10.weight"].T + tensors["layers.10.bias"]).mean()
    assert good["aesthetic_score"] == pytest.approx(float(expected), abs=1e-5)
    assert isinstance(gone, VideoDecodeError)


def test_heads_of_one_layer_and_pth_files_are_read_and_others_refused(tmp_path, clip):
    torch.save({"weight": torch.ones(1, 4), "bias": torch.ones(1)}, tmp_path / "head.pth")
    assert AestheticHead(tmp_path / "head.pth")(torch.eye(4)[:2]).tolist() == [2.0, 2.0]
    with pytest.raises(ValueError, match="no image embeddings of 4 numbers"):
        Aesthetics(tmp_path, str(clip), tmp_path / "head.pth", device="cpu").load()
    torch.save({"weight": torch.ones(2, 4), "bias": torch.ones(2)}, tmp_path / "two.pth")
    with pytest.raises(ValueError, match=r"its layers are \[\(2, 4\)\]"):
        AestheticHead(tmp_path / "two.pth")
    torch.save(torch.nn.Linear(4, 1), tmp_path / "code.pth")  # a pickle of a class
    for name in ("code.pth", "none.safetensors"):
        with pytest.raises(ValueError, match="holds no aesthetic head"):
            AestheticHead(tmp_path / name)
