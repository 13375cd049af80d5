"""Features of words are the token states of a text tower, each text's alone."""

import pytest
import torch
from transformers import AutoModel, AutoProcessor, AutoTokenizer, CLIPConfig, CLIPModel

from internvideo_hf import demo_path
from internvideo_hf.inference.texts import TextEncoder

TEXTS = ["a red square moves up", "the moon", "A  Red square moves up"]


def test_words_of_a_dual_encoder_are_its_token_states():
    encoder = TextEncoder("demo-mm", device="cpu")
    found = encoder.encode(TEXTS)
    model = AutoModel.from_pretrained(demo_path("demo-mm")).eval()
    processor = AutoProcessor.from_pretrained(demo_path("demo-mm"))
    for text, states in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            expected = model.get_text_features(**processor(text=[text], return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(states, expected)
    assert found[0] is found[2], "a text that differs in capitals and spaces alone is computed once"
    assert encoder.size == 96 and encoder.encode(["the moon"])[0] is found[1]


def test_a_clip_of_transformers_reads_words_too(tmp_path, caplog):
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = AutoTokenizer.from_pretrained(demo_path("demo-mm"))
    text = {
        **tower,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 6,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = CLIPConfig(text_config=text, vision_config={**tower, "image_size": 8, "patch_size": 4}, projection_dim=8)
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = TextEncoder(tmp_path, device="cpu")
    (found,) = encoder.encode(["the moon"])
    ids = torch.tensor([tokenizer("the moon")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(found, model.text_model(ids).last_hidden_state[0])
    (cut,) = encoder.encode(["a large red square moves up over a dotted background"])
    assert cut.shape == (6, 16) and "more than the 6 tokens" in caplog.text


def test_models_without_text_are_refused():
    with pytest.raises(ValueError, match="demo-classifier reads no text: it holds an? UniFormerV2Model"):
        TextEncoder("demo-classifier")
    with pytest.raises(ValueError, match="A text is empty"):
        TextEncoder("demo-mm", device="cpu").encode([" "])
