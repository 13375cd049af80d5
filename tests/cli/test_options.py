"""Values of shared options."""

from program import assert_refused, run

LABELS = "riding a bike, cooking pasta, playing chess"


def test_a_folder_that_holds_no_model_is_refused(bikes, tmp_path):
    assert_refused(run("zero-shot", bikes, "--model", tmp_path, "--labels", LABELS), str(tmp_path))


def test_classify_tells_a_pretrained_model_and_a_folder_of_transformers_own(
    mae_folder, mae_pretrained_folder, bikes, tmp_path
):
    wanted = ("holds a InternVideoMAEForPreTraining", "InternVideoMAEForVideoClassification")
    assert_refused(run("classify", bikes, "--model", mae_pretrained_folder), *wanted)
    checkpoint, stock = mae_folder.with_name("classifier.pth"), tmp_path / "stock"
    assert run("convert", checkpoint, stock, "--to", "transformers-videomae").returncode == 0
    for command in (
        ["classify"],
        ["extract", "--out", tmp_path / "out"],
        ["reconstruct", "--out", tmp_path / "x.png"],
    ):
        assert_refused(run(*command, bikes, "--model", stock), "'videomae'", "transformers' own pipelines")
