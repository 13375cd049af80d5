"""Model cards: metadata and text."""

import pytest
from huggingface_hub import ModelCard

from internvideo_hf import InternVideoMMConfig
from internvideo_hf.checkpoints.cards import append_to_card, pipeline_snippet, pipeline_tag, write_card

TASKS = ["video-classification", "zero-shot-video-classification", "video-to-text", "video-question-answering"]
TASKS.append("video-action-detection")


def test_a_card_holds_its_parts_in_order(tmp_path):
    write_card(
        tmp_path,
        "A model",
        family="viclip",
        provenance="Made by hand.",
        pipeline_tag="video-classification",
        base_models=["owner/base"],
        facts=["Source: here", "License of the weights: none"],
        sections={"Left out": ["a buffer: `step`"], "License": "Ask."},
        stock=True,
    )
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "tags": ["internvideo_hf", "video", "viclip"],
        "pipeline_tag": "video-classification",
        "base_model": ["owner/base"],
        "license": "other",
    }
    facts = "- Source: here\n- License of the weights: none"
    sections = "## Left out\n\n- a buffer: `step`\n\n## License\n\nAsk."
    assert card.text == f"\n# A model\n\nMade by hand.\n\n{facts}\n\n{sections}\n"


def test_a_card_without_optional_parts_has_no_empty_ones(tmp_path):
    write_card(tmp_path, "A model", family="viclip", provenance="Made by hand.", stock=True)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.text == "\n# A model\n\nMade by hand.\n"
    assert not {"pipeline_tag", "base_model"} & set(card.data.to_dict())


def test_the_card_of_a_dual_encoder_says_what_else_loads_it(tmp_path):
    InternVideoMMConfig(architectures=["InternVideoMMModel"]).save_pretrained(tmp_path)
    write_card(tmp_path, "A model", family="internvideo_mm", provenance="Made by hand.")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.tags == ["internvideo_hf", "video", "internvideo_mm", "sentence-transformers"]
    assert "a sentence-transformers model of texts and videos" in card.text


def test_a_model_without_an_original_says_that_it_is_a_reading(tmp_path):
    write_card(tmp_path, "A head", family="vslnet", provenance="Trained.", sections={"License": "Ask."})
    heading, text, loading, last = ModelCard.load(tmp_path / "README.md").text.split("\n\n## ")
    assert loading.startswith("Loading\n\n") and "`pip install internvideo-hf`" in loading
    assert heading == "\n# A head\n\nTrained." and last.startswith("License")
    assert text.startswith("Model\n\nA head on features in the manner of VSLNet (arXiv 2004.13931)")
    assert "neither code nor weights of its head" in text and "a reading of VSLNet's paper, not a port" in text


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_a_snippet_is_code_and_imports_what_it_needs(task, stock):
    fence, *lines, end = pipeline_snippet(task, stock).splitlines()
    compile("\n".join(lines), "snippet", "exec")
    assert (fence, end) == ("```python", "```") and f'pipeline("{task}", ' in "".join(lines)
    assert ("import internvideo_hf" in lines) != stock
    assert ("candidate_labels=" in lines[-1]) == task.startswith("zero-shot")
    assert ("detector=" in lines[-2]) == ("detection" in task)
    assert ("question=" in lines[-1]) == ("question" in task)


@pytest.mark.parametrize(
    ("architecture", "projection_dim", "task", "tag"),
    [
        ("ViCLIPForVideoClassification", 4, "video-classification", "video-classification"),
        ("InternVideoMMForConditionalGeneration", 4, "video-to-text", "video-text-to-text"),
        ("InternVideoMMForQuestionAnswering", None, "video-question-answering", "visual-question-answering"),
        ("InternVideoMMModel", 4, "zero-shot-video-classification", "zero-shot-video-classification"),
        ("InternVideoMMModel", None, None, None),
        # The Hub's tag of video classification would promise a pipeline that asks nothing of boxes.
        ("InternVideoMAEForVideoActionDetection", None, "video-action-detection", None),
    ],
)
def test_a_model_has_the_task_of_its_pipeline_and_the_tag_of_the_hub(
    architecture, projection_dim, task, tag, tmp_path
):
    assert pipeline_tag(InternVideoMMConfig(projection_dim=projection_dim), architecture) == task
    write_card(tmp_path, "A model", family="internvideo_mm", provenance="Made by hand.", pipeline_tag=task)
    assert ModelCard.load(tmp_path / "README.md").data.pipeline_tag == tag


def test_a_section_is_appended_to_a_card_or_starts_one(tmp_path):
    append_to_card(tmp_path, "Average", "0.5 `a` + 0.5 `b`")
    append_to_card(tmp_path, "Files", ["one", "two"])
    assert (tmp_path / "README.md").read_text() == "\n## Average\n\n0.5 `a` + 0.5 `b`\n\n## Files\n\n- one\n- two\n"
