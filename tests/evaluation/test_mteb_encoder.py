"""Models as mteb calls them: embeddings of rows, and what mteb is told of a model."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

mteb = pytest.importorskip("mteb", reason="needs the extra mteb")

from datasets import Dataset, Video  # noqa: E402
from stock_models import write_stock  # noqa: E402

from internvideo_hf.checkpoints.model_names import converted_folder, demo_path, released_row  # noqa: E402
from internvideo_hf.data.failures import TooManyFailuresError  # noqa: E402
from internvideo_hf.evaluation.mteb_encoder import load, mteb_name, register, released_metas  # noqa: E402
from internvideo_hf.inference.embedder import Embedder  # noqa: E402
from internvideo_hf.inference.runner import RunSettings  # noqa: E402

HERE = {"device": "cpu", "settings": RunSettings(workers=0, quiet=True)}
TASK = {"task_metadata": SimpleNamespace(name="Mine"), "hf_split": "test", "hf_subset": "default"}


def encode(encoder, batch_size=4, **columns):
    dataset = Dataset.from_dict(columns)
    if "video" in columns:
        dataset = dataset.cast_column("video", Video())
    return encoder.encode(SimpleNamespace(dataset=dataset), **TASK, batch_size=batch_size)


@pytest.fixture(scope="module")
def encoder():
    return load("demo-mm", **HERE)


def test_rows_are_embedded_as_we_embed_them(encoder, drawn):
    files, own = sorted((drawn[0] / "test").glob("*.mp4")), Embedder("demo-mm", device="cpu")
    videos = torch.cat([own.embed_video(file) for file in files]).numpy()
    texts = own.embed_texts(drawn[1]).numpy()
    of_files = encode(encoder, video=list(map(str, files)))
    of_bytes = encode(encoder, batch_size=1, video=[file.read_bytes() for file in files])
    np.testing.assert_allclose(of_files, videos, atol=1e-6)
    np.testing.assert_allclose(of_bytes, videos, atol=1e-6)
    np.testing.assert_allclose(encode(encoder, text=drawn[1]), texts, atol=1e-6)
    both = encode(encoder, text=drawn[1], video=list(map(str, files)))
    np.testing.assert_allclose(both, videos + texts, atol=1e-6)


def test_long_texts_are_cut_and_blank_ones_are_zeros(encoder):
    long = "a small red heart moves to the left " * 9
    found = encode(encoder, text=[long, " ", "a cross"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(encode(encoder, text=[""]), np.zeros((1, 128), np.float32))


def test_unreadable_videos_are_zeros_and_named(drawn):
    good = (drawn[0] / "test/00000.mp4").read_bytes()
    tolerant = load("demo-mm", device="cpu", settings=RunSettings(workers=0, max_damaged=0.5, quiet=True))
    found = encode(tolerant, video=[b"no video", good])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [0, 1], atol=1e-6)
    assert len(tolerant.causes) == 1 and tolerant.causes[0].startswith("video 0 of Mine: ")
    with pytest.raises(TooManyFailuresError, match="video 0 of Mine"):
        encode(load("demo-mm", **HERE), video=[b"no video", good])


def test_other_modalities_are_refused(encoder):
    with pytest.raises(ValueError, match="Mine has neither videos nor texts, but audio"):
        encode(encoder, audio=["a"])


def test_a_folder_has_a_name_and_a_revision_of_its_own(tmp_path, encoder):
    shutil.copytree(demo_path("demo-mm"), tmp_path / "mine")
    meta = load(tmp_path / "mine", **HERE).mteb_model_meta
    assert (meta.name, meta.modalities) == ("local/mine", ["video", "text"])
    assert (meta.n_parameters, meta.embed_dim, meta.max_tokens) == (842593, 128, 32)
    assert meta.revision == encoder.mteb_model_meta.revision  # of the same weights
    config = tmp_path / "mine/processor_config.json"
    config.write_text(config.read_text().replace('"num_frames": 8', '"num_frames": 4'))
    assert load(tmp_path / "mine", **HERE).mteb_model_meta.revision != meta.revision
    in_half = load(tmp_path / "mine", dtype="bfloat16", **HERE).mteb_model_meta
    assert in_half.experiment_kwargs == {"dtype": "bfloat16"}


def test_a_model_without_texts_takes_videos_alone(mae_folder, drawn):
    encoder = load(mae_folder, **HERE)
    assert encoder.mteb_model_meta.modalities == ["video"]
    found = encode(encoder, video=[str(drawn[0] / "test/00000.mp4")])
    np.testing.assert_allclose(np.linalg.norm(found), 1, atol=1e-6)


def test_a_model_of_transformers_is_taken_too(tmp_path, drawn):
    encoder = load(write_stock("videomae", tmp_path / "theirs"), **HERE)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.modalities, meta.max_tokens) == ("local/theirs", ["video"], None)
    assert encode(encoder, video=[str(drawn[0] / "test/00000.mp4")]).shape == (1, meta.embed_dim)


def test_names():
    assert mteb_name("demo-mm") == "internvideo_hf/demo-mm"
    assert mteb_name("internvideo-mm-l-14") == "OpenGVLab/InternVideo-MM-L-14"
    assert mteb_name("you/mm") == "you/mm"


def test_all_released_models_of_video_and_text_are_known(tmp_path, monkeypatch, drawn):
    names = {meta.name for meta in released_metas()}
    assert len(names) == 17  # two MM, its six fine-tuned for retrieval, nine ViCLIP
    assert {"OpenGVLab/InternVideo-MM-L-14", "OpenGVLab/ViCLIP-L-14-InternVid-10M-FLT"} < names
    by_name = {meta.name: meta for meta in released_metas()}
    tuned = by_name["OpenGVLab/InternVideo-MM-L-14-retrieval-MSVD"].training_datasets
    assert tuned == {"MSVDT2VRetrieval", "MSVDV2TRetrieval"}
    assert by_name["OpenGVLab/ViCLIP-B-16-InternVid-200M"].license == "cc-by-nc-sa-4.0"
    assert by_name["OpenGVLab/InternVideo-MM-L-14"].license is None  # which is not stated

    # In the place of the converted file, which is not here, stands a toy.
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(tmp_path))
    shutil.copytree(demo_path("demo-mm"), converted_folder(released_row("InternVideo-MM-L-14")))
    register()
    model = mteb.get_model("OpenGVLab/InternVideo-MM-L-14", device="cpu")
    assert model.mteb_model_meta.revision == "released"
    assert encode(model, text=drawn[1]).shape == (6, 128)
    assert load("InternVideo-MM-L-14", **HERE).mteb_model_meta.embed_dim == 128
