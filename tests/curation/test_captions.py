"""Captions by tiny random models: of the middle frame, of frames that are summarized, of whole clips."""

import json
import shutil

import pytest
from curation.conftest import WORDS
from transformers import AutoProcessor, LlavaForConditionalGeneration, pipeline

from internvideo_hf.curation import captions
from internvideo_hf.curation.captions import (
    Captions,
    CaptionSettings,
    PictureCaptioner,
    VideoCaptioner,
    load_captioning_pipeline,
    model_fingerprint,
)
from internvideo_hf.data.thumbnails import spread_pictures
from internvideo_hf.video.errors import VideoDecodeError


def test_the_middle_frame_is_described_by_the_model_itself(blip, shots, tmp_path):
    captioner = PictureCaptioner(CaptionSettings(str(blip), max_new_tokens=3), "cpu")
    (tmp_path / "bad.mp4").write_text("no video")
    answer, bad = captioner.describe([shots, tmp_path / "bad.mp4"])
    direct = captioner._describe.model
    processor = captioner._describe.processor
    picture = spread_pictures(str(shots), 1)
    inputs = processor(images=picture, text=[""], return_tensors="pt")
    expected = processor.batch_decode(direct.generate(**inputs, max_new_tokens=3), skip_special_tokens=True)[0]
    assert answer == {"caption": expected} and expected and set(expected.split()) <= set(WORDS)
    assert isinstance(bad, VideoDecodeError)


def test_frames_are_summarized_in_their_order(blip, llama, shots, monkeypatch):
    settings = CaptionSettings(str(blip), str(llama), frames=3, max_new_tokens=2, summary_prompt="sum: {captions}")
    captioner = PictureCaptioner(settings, "cpu")
    monkeypatch.setattr(captioner, "_captions", lambda pictures: [f"{p.getpixel((40, 40))}" for p in pictures])
    asked = []
    real = captioner._summarize

    class Spy:
        tokenizer = real.tokenizer

        def __call__(self, texts, **options):
            asked.extend(texts)
            return real(texts, **options)

    monkeypatch.setattr(captioner, "_summarize", Spy())
    (answer,) = captioner.describe([shots])
    colors = asked[0][0]["content"].removeprefix("sum: ").split("\n")
    assert len(colors) == 3
    red, gray, blue = (tuple(map(int, color.strip("()").split(","))) for color in colors)
    assert red[0] > 200 > red[2] and abs(gray[0] - gray[2]) < 20 and blue[2] > 200 > blue[0]
    assert answer["caption"] == answer["fine"] and set(answer["fine"].split()) <= set(WORDS)
    assert answer["coarse"] == f"{spread_pictures(str(shots), 1)[0].getpixel((40, 40))}"


def test_chat_models_are_asked_and_answer_the_same_each_time(llava, shots):
    captioner = PictureCaptioner(CaptionSettings(str(llava), prompt="what man", max_new_tokens=4), "cpu")
    answers = [captioner.describe([shots, shots]) for _ in range(2)]
    processor, model = AutoProcessor.from_pretrained(llava), LlavaForConditionalGeneration.from_pretrained(llava)
    inputs = processor(images=spread_pictures(str(shots), 1), text=["<image>what man"], return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    caption = processor.decode(tokens, skip_special_tokens=True)
    assert answers == [[{"caption": caption}] * 2] * 2 and len(caption.split()) == 4


def test_a_captioner_of_this_package_sees_the_clip(captioner, shots, tmp_path):
    row = {"clip": shots.name, "caption": None}
    stage = Captions(shots.parent, CaptionSettings(str(captioner), max_new_tokens=2), "cpu")
    assert isinstance(stage.captioner, VideoCaptioner)
    (tmp_path / "none").mkdir()
    described, told, bad = stage.run([row, {**row, "caption": "as it was"}, {**row, "clip": "none.mp4"}])
    expected = pipeline("video-to-text", model=str(captioner), device="cpu")(str(shots), max_new_tokens=2)
    assert described == {**row, "caption": expected[0]["generated_text"]}
    assert told["caption"] == "as it was" and isinstance(bad, VideoDecodeError)
    with pytest.raises(ValueError, match="nothing to summarize"):
        VideoCaptioner(CaptionSettings(str(captioner), "another"))


def test_the_stage_describes_what_has_no_caption_and_refuses_silence(blip, shots, monkeypatch):
    stage = Captions(shots.parent, CaptionSettings(str(blip)), "cpu")

    class Mute:
        def describe(self, clips):
            return [{"caption": "a dog"}, {"caption": ""}][: len(clips)]

    monkeypatch.setitem(stage.__dict__, "captioner", Mute())
    rows = [{"clip": "a", "caption": None}, {"clip": "b", "caption": "b"}, {"clip": "c", "caption": None}]
    first, second, third = stage.run(rows)
    assert (first["caption"], second["caption"], third.cause) == ("a dog", "b", "the model wrote no caption")
    assert stage.run(rows[1:2]) == rows[1:2]


def test_fingerprints_are_those_of_the_files(blip, tmp_path, monkeypatch):
    copy = shutil.copytree(blip, tmp_path / "copy")
    assert model_fingerprint(copy) == model_fingerprint(blip)
    config = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(config | {"num_beams": 3}))
    assert model_fingerprint(copy) != model_fingerprint(blip)
    monkeypatch.setattr(captions, "load_pretrained", lambda kind, name: type("Config", (), {"_commit_hash": "c0ffee"}))
    monkeypatch.setattr(captions, "resolve_model", str)
    assert model_fingerprint("owner/name") == "owner/name@c0ffee"


def test_models_with_code_of_their_own_and_settings_out_of_range_are_refused(blip, tmp_path):
    copy = shutil.copytree(blip, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ValueError, match="auto_map|code"):
        load_captioning_pipeline("image-text-to-text", copy)
    for options in ({"frames": 1}, {"max_new_tokens": 0}, {"summary_prompt": "what?"}):
        with pytest.raises(ValueError, match="expected at least 2 frames"):
            CaptionSettings("m", **options)
