"""Tiny random models that describe and summarize, and a small video of three shots."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[ENC]", "[DEC]", "dog", "cat", "man", "runs", "sleeps"]
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TOKENS = {"vocab_size": len(WORDS), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
NO_TOKENS = [0, 1, 2, 3, 4, 5, 6]  # which are no words: the models always say something
RED, GRAY, BLUE = (255, 0, 0), (90, 90, 90), (0, 0, 255)


def tokenizer(folder: Path, template: str | None = None) -> BertTokenizerFast:
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return BertTokenizerFast(vocab=str(folder / "vocab.txt"), chat_template=template)


@pytest.fixture(scope="session")
def blip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blip") / "model"
    text = {**SIZES, **TOKENS, "encoder_hidden_size": 16, "sep_token_id": 3, "projection_dim": 8}
    vision = {**SIZES, "image_size": 16, "patch_size": 8}
    processor = BlipProcessor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer(folder))
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=vision, projection_dim=8, image_text_hidden_size=8)
    )
    model.generation_config.suppress_tokens = NO_TOKENS
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "model"
    tokenizer(folder, "{% for m in messages %}{{ m['content'] }} {% endfor %}").save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, **TOKENS))
    model.generation_config.suppress_tokens = NO_TOKENS
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llava(tmp_path_factory) -> Path:
    """Return a model that chats about pictures, and whose own settings draw its answers."""
    folder = tmp_path_factory.mktemp("llava") / "model"
    words = ["[PAD]", "[UNK]", "<s>", "</s>", "<image>", *WORDS[7:]]
    model = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    model.pre_tokenizer = Whitespace()
    marks = {"unk_token": "[UNK]", "pad_token": "[PAD]", "bos_token": "<s>", "eos_token": "</s>"}
    tokens = PreTrainedTokenizerFast(tokenizer_object=model, extra_special_tokens={"image_token": "<image>"}, **marks)
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else c['text'] }}"
        "{% endfor %}{% endfor %}"
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(pictures, tokens, 8, "default", chat_template=template, num_additional_image_tokens=1)
    vision = CLIPVisionConfig(**SIZES, image_size=16, patch_size=8, projection_dim=16)
    text = LlamaConfig(**{**SIZES, **TOKENS, "vocab_size": len(words)})
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-1)
    llava = LlavaForConditionalGeneration(config)
    llava.generation_config.update(suppress_tokens=[0, 1, 2, 3, 4], do_sample=True, temperature=2.0)
    llava.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "model"
    vision = {**SIZES, "image_size": 16, "patch_size": 8}
    text = {**SIZES, **TOKENS}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    BlipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def write_shots(path: Path, colors=(RED, GRAY, BLUE), frames: int = 20, rate: int = 10, gop: int = 8) -> Path:
    """Write a video whose frame of number n has n white pixels, in shots of a color each."""
    with av.open(str(path), "w") as writing:
        stream = writing.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.options = {"x264-params": "scenecut=0", "crf": "10"}
        for number in range(frames * len(colors)):
            pixels = np.full((48, 64, 3), colors[number // frames], np.uint8)
            pixels[8:16, 8 : 8 + number % 48] = 255
            writing.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        writing.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def shots(tmp_path_factory) -> Path:
    """Return a video of 6 s at 10 frames a second: 2 s red, 2 s gray, 2 s blue, a keyframe every 0.8 s."""
    return write_shots(tmp_path_factory.mktemp("shots") / "7q_1Lg3YqEE.mp4")
