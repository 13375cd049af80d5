"""Retrieval by a protocol: scores equal to a manual computation, captions of one video, protocols of ViCLIP."""

from program import run
from tasks.lists import HERE, SENTENCES, VIDEOS, evaluate, similarity_by_hand, videos_of
from transformers import AutoModel, AutoProcessor

from internvideo_hf.inference.ranking import retrieval_metrics


def test_retrieval_is_that_of_the_model_asked_by_hand(mm_folder, lists):
    result, printed = evaluate("retrieval/msrvtt", mm_folder, lists)
    pixels = {"sampler": "retrieval_fps", "size": {"shortest_edge": 224}, "resize_method": "pil_bicubic"}
    assert result["scores"] == retrieval_metrics(similarity_by_hand(mm_folder, videos_of(lists), SENTENCES, **pixels))
    assert result["data"]["videos"] == result["data"]["texts"] == VIDEOS and result["damaged"] == []
    assert len(result["data"]["files"]["MSRVTT_JSFUSION_test.csv"]) == 64
    assert result["settings"]["merge"] == {"weight": 0.5, "variant": "retrieval"}
    for words in ("8 by retrieval_fps", "short side 224 by pil_bicubic", "77 tokens", "split has 1000", "0.5 CLIP"):
        assert words in printed
    lines = [line.split()[-5:] for line in printed.splitlines() if "read-me" in line]
    assert lines == [["40.00", "65.30", "74.10", "2.00", "23.90"], ["37.50", "63.30", "71.30", "3.00", "24.20"]]
    assert "text to video, dual softmax" in printed and "paper, dual softmax" in printed


def test_several_captions_of_a_video_are_one_video(mm_folder, lists):
    result, printed = evaluate("retrieval/msvd", mm_folder, lists, "processor.num_frames=4")
    assert (result["data"]["videos"], result["data"]["texts"]) == (3, 2 + 3 + 3)
    assert result["data"]["files"].keys() == {"raw-captions.pkl", "test_list.txt"}
    assert "4 by retrieval_seconds" in printed
    assert result["protocol"] == "retrieval/msvd processor.num_frames=4"


def test_viclip_has_protocols_of_its_own(viclip_folder, mm_folder, lists):
    texts = AutoProcessor.from_pretrained(viclip_folder).tokenizer.model_max_length
    frames = AutoModel.from_pretrained(viclip_folder).config.vision_config.num_frames
    changes = [f"text_length={texts}", f"processor.num_frames={frames}"]
    result, printed = evaluate("retrieval/viclip_msrvtt", viclip_folder, lists, *changes)
    assert "places among captions" in printed and result["model"]["family"] == "viclip"
    refused = run("evaluate", "retrieval/viclip_msrvtt", "--model", mm_folder, "--data-root", lists, *HERE)
    assert refused.returncode == 2 and "for viclip" in refused.stderr and "family=internvideo_mm" in refused.stderr
