"""`convert` and `merge`: outputs and refusals."""

import json

import torch
from program import assert_refused, run


def test_convert_writes_a_folder_and_names_what_it_left_out(random_checkpoint, tmp_path):
    content = torch.load(random_checkpoint, weights_only=True)
    content["state_dict"]["caption_decoder.text_norm.weight"] = torch.ones(4)
    torch.save(content, tmp_path / "with-decoder.ckpt")
    result = run("convert", tmp_path / "with-decoder.ckpt", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "caption_decoder.text_norm.weight" in result.stdout
    assert {"config.json", "model.safetensors", "README.md"} <= {path.name for path in (tmp_path / "out").iterdir()}
    quiet = run("convert", tmp_path / "with-decoder.ckpt", tmp_path / "out", "--overwrite", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_convert_refuses_and_leaves_nothing_behind(random_checkpoint, tmp_path):
    whole = random_checkpoint.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "typo.json").write_text('{"vision_config": {"num_attention_head": 1}}')
    (tmp_path / "misfit.json").write_text('{"vision_config": {"num_attention_heads": 3}}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    before = sorted(tmp_path.iterdir())
    refusals = [
        ((tmp_path / "cut.ckpt", tmp_path / "out"), "cut.ckpt"),
        ((tmp_path / "missing.ckpt", tmp_path / "out"), "does not exist"),
        ((random_checkpoint, tmp_path / "full"), "--overwrite"),
        ((random_checkpoint, tmp_path / "out", "--config", tmp_path / "typo.json"), "num_attention_heads"),
        ((random_checkpoint, tmp_path / "out", "--config", tmp_path / "misfit.json"), "must divide"),
        ((random_checkpoint, tmp_path / "out", "--config", tmp_path / "broken.json"), "broken.json"),
        ((random_checkpoint, tmp_path / "out", "--config", tmp_path / "none.json"), "none.json"),
        ((random_checkpoint, tmp_path / "out", "--dtype", "int8"), "float32"),
    ]
    for arguments, word in refusals:
        assert_refused(run("convert", *arguments), word)
    assert sorted(tmp_path.iterdir()) == before


def test_no_code_of_a_checkpoint_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was-here"), "w"))

    torch.save({"state_dict": {"clip.visual_proj": torch.ones(1)}, "callbacks": Evil()}, tmp_path / "evil.ckpt")
    assert_refused(run("convert", tmp_path / "evil.ckpt", tmp_path / "out"), "open", "--trust-pickle")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.ckpt"]


def test_convert_takes_the_data_set_of_a_retrieval_fine_tune(random_checkpoint, tmp_path):
    source = tmp_path / "pytorch_model.bin"
    source.symlink_to(random_checkpoint)
    assert_refused(run("convert", source, tmp_path / "x"), "--data-set", "activitynet, didemo, lsmdc, msrvtt")
    assert_refused(run("convert", source, tmp_path / "x", "--data-set", "msrvt"), "Did you mean msrvtt?")
    assert not (tmp_path / "x").exists()
    assert run("convert", source, tmp_path / "out", "--data-set", "msrvtt").returncode == 0
    assert "as in the released test on MSR-VTT" in (tmp_path / "out/README.md").read_text()


def test_convert_says_whose_classes_a_head_has(mae_folder, tmp_path):
    checkpoint = mae_folder.with_name("classifier.pth")
    told = run("convert", checkpoint, tmp_path / "k400")
    assert told.returncode == 0 and "classes are those of k400" in told.stdout
    assert_refused(run("convert", checkpoint, tmp_path / "ssv2", "--head", "ssv2"), "400", "174")
    assert_refused(run("convert", checkpoint, tmp_path / "x", "--head", "k401"), "k400")
    stock = run("convert", checkpoint, tmp_path / "stock", "--to", "transformers-videomae")
    assert stock.returncode == 0, stock.stderr
    config = json.loads((tmp_path / "stock/config.json").read_text())
    assert config["model_type"] == "videomae" and "auto_map" not in config  # transformers needs nothing else
    assert not list((tmp_path / "stock").glob("*.py"))
    assert_refused(run("convert", checkpoint, tmp_path / "x", "--to", "onnx"), "transformers-videomae")
    assert_refused(run("convert", checkpoint, tmp_path / "x", "--task", "action_detection"), "no action detector")
    assert_refused(run("convert", checkpoint, tmp_path / "x", "--task", "detection"), "action_detection")


def test_convert_names_the_answers_of_a_question_answering_file(answerer, tmp_path):
    call = ("convert", answerer.with_name("random.ckpt"), tmp_path / "out")
    done = run(*call)
    assert "Its 5 answers are named by their numbers: add --answers FILE" in done.stdout
    assert "msrvtt_train_ans2label.json" in done.stdout and "; 0 tensors of the file were left out." in done.stdout
    for number, said in ((5, "answers.txt.\n"), (4, "answers.txt, and one class for none (background).\n")):
        (tmp_path / "answers.txt").write_text("".join(f"{letter}\n" for letter in "abcde"[:number]))
        done = run(*call, "--overwrite", "--answers", tmp_path / "answers.txt")
        assert f"Its answers are those of {tmp_path}/{said}" in done.stdout
    (tmp_path / "answers.txt").write_text("a\nb\n")
    refused = run(*call, "--overwrite", "--answers", tmp_path / "answers.txt")
    assert_refused(refused, "internvideo: The list has 2 answers, expected 4 or 5: the head has 5 classes.")
    assert refused.stderr.count("\n") == 1
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["id2label"]["3"] == "d", "what was there stays"


def test_convert_takes_a_decoder_whole_or_not_at_all(captioner, tmp_path):
    call = ("convert", captioner.with_name("random.ckpt"), tmp_path / "out")
    (tmp_path / "deep.json").write_text('{"decoder_config": {"num_hidden_layers": 1}}')
    refused = run(*call, "--config", tmp_path / "deep.json")
    assert_refused(refused, "decoder has 2 layers, got decoder_config.num_hidden_layers=1. Leave it out")
    assert_refused(run(*call, "--part", "tower"), "Did you mean towers?")
    done = run(*call, "--part", "towers")
    assert done.returncode == 0 and "(the caption decoder, which the dual encoder does not use)" in done.stdout


def test_merge_averages_two_folders_and_refuses_what_is_none(viclip_folder, tmp_path):
    result = run("merge", viclip_folder, viclip_folder, "--weight", "0.5", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "average of 78 tensors" in result.stdout
    assert (tmp_path / "out/preprocessor_config.json").is_file() or (tmp_path / "out/processor_config.json").is_file()
    assert_refused(run("merge", viclip_folder, tmp_path, "--out", tmp_path / "other"), "config.json")
    assert_refused(run("merge", viclip_folder, viclip_folder, "--out", tmp_path / "out"), "--overwrite")


def test_convert_saves_the_processor_that_is_asked_for(viclip_folder, tmp_path):
    source = viclip_folder.with_name("random.pth")
    result = run("convert", source, tmp_path / "out", "--processor", "demo")
    assert result.returncode == 0, result.stderr
    assert "viclip_stride" in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))
    assert_refused(run("convert", source, tmp_path / "none", "--processor", "demos"), "training, demo")
