"""The pages in docs: snippets run, generated pages equal their sources, and the site builds without a warning."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from snippets import parse_command, read_snippets, run_snippets

from internvideo_hf.auto import FAMILIES
from internvideo_hf.recipes.reading import EVALUATIONS
from internvideo_hf.training.recipes import recipe_names

DOCS = ROOT / "docs"
OF_SITE = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
PAGES = [ROOT / "README.md", *OF_SITE]  # test_examples.py runs the README, and knows the answers
RUN = [path for path in OF_SITE if any(s.reason is None for s in read_snippets(path.read_text(encoding="utf-8")))]
# Pages whose snippets take more than five seconds; .ci/run runs them, too.
SLOW = {
    "index.md",
    "howto/detect.md",
    "howto/export.md",
    "howto/finetune.md",
    "howto/ground.md",
    "howto/pretrain.md",
    "howto/scale_out.md",
    "howto/serve.md",
    "howto/unknowns.md",
    "models/actionformer.md",
}
NEEDS = {"howto/export.md": ["onnxscript", "onnxruntime"], "howto/serve.md": ["fastapi", "httpx"]}
"""Page -> packages of extras."""


def name_of(path: Path) -> str:
    return path.relative_to(DOCS if path in OF_SITE else ROOT).as_posix()


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=name_of(path), marks=[pytest.mark.slow] if name_of(path) in SLOW else []) for path in RUN],
)
def test_snippets_run_from_top_to_bottom(path, desk):
    for package in NEEDS.get(name_of(path), ()):
        pytest.importorskip(package, reason="needs an extra")
    run_snippets(path)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_snippet_is_run_or_marked(path):
    text = path.read_text(encoding="utf-8")
    snippets = read_snippets(text)
    # By another way than the reader's: fences of all kinds, in lists and quotes, too.
    fences = r"^[ >]*(?:```+|~~~+) *\{?(?:code-block\} *)?(?:bash|sh|shell|console|python)"
    assert len(snippets) == len(re.findall(fences, text, re.M))
    for snippet in snippets:
        if snippet.reason is not None:
            assert len(snippet.reason.split()) >= 3, f"{name_of(path)}, line {snippet.line}: say why it is not run"
        elif snippet.language == "bash":
            lines = [line for line in snippet.code.splitlines() if line]
            assert all(line.startswith("internvideo ") for line in lines), f"{name_of(path)}, line {snippet.line}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_that_are_not_run_are_valid_calls(path):
    text = path.read_text(encoding="utf-8")
    not_run = [snippet.code for snippet in read_snippets(text) if snippet.reason is not None]
    commands = re.findall(r"^internvideo .+$", "\n".join(not_run), re.M)
    commands += re.findall(r" \| `(internvideo \S+ [^`|]+)` \|$", text, re.M)  # last cells of tables
    for command in commands:
        if command.endswith(" --help"):  # which exits
            continue
        words = parse_command(command)
        if words[0] in ("train", "cache") and re.fullmatch(r"[a-z0-9_]+/[a-z0-9_]+", words[1]):
            assert words[1] in recipe_names(), command
        if words[0] == "evaluate" and re.fullmatch(r"[a-z0-9_]+/[a-z0-9_]+", words[1]):
            assert words[1] in EVALUATIONS.names(), command


def test_the_reader_finds_blocks_marks_and_lines():
    page = "# a\n\n```bash\ninternvideo doctor\n```\n\n<!-- not run: no cluster here -->\n```python\nx = 1\n```\n"
    assert read_snippets(page) == [
        (4, "bash", "internvideo doctor\n", None),
        (9, "python", "x = 1\n", "no cluster here"),
    ]
    assert {s.reason for s in read_snippets(f"<!-- nothing here is run: as a test -->\n{page}")} == {"as a test"}


@pytest.mark.parametrize(
    "text", ["```bash\ninternvideo no-such-command\n```\n", "```bash\nls\n```\n", "```python\nassert False\n```\n"]
)
def test_a_snippet_that_fails_is_an_error(tmp_path, text):
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(AssertionError):
        run_snippets(tmp_path / "page.md")


def test_generated_pages_are_those_of_their_sources(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    code = runpy.run_path(str(DOCS / "generate.py"))["main"]()
    assert code == 0, capsys.readouterr().err


def test_a_generated_page_that_was_edited_is_found(monkeypatch, capsys, tmp_path):
    generate = runpy.run_path(str(DOCS / "generate.py"))
    page = generate["PAGES"]
    monkeypatch.setitem(page, "cli.md", lambda: "# Commands\n")
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert generate["main"]() == 1
    assert capsys.readouterr().err.startswith("cli.md: ")


def test_every_model_family_has_a_page():
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "models").glob("*.md"))
    assert {family.folder for family in FAMILIES.values()} == set(re.findall(r"/api\.md#(\w+)\)", pages))


NO_NOTEBOOKS = ("-D", "nb_execution_mode=off")  # which test_notebooks.py runs


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("furo", reason="needs the extra docs")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-n",
        "-W",
        "--keep-going",
        *NO_NOTEBOOKS,
        str(DOCS),
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/notebooks/search_my_videos.html").is_file()
    assert (tmp_path / "site/reference/api.html").read_text(encoding="utf-8").count("<dt") > 500
