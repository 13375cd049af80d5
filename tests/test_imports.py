"""Import rules, read from the source, and the effect of `import internvideo_hf` in a fresh interpreter.

    utils  <  recipes  <  video  <  models  <  data · processing  <  auto  <  checkpoints  <  inference  <  tasks
    <  training · evaluation · search · curation  <  serving  <  demo  <  export  <  cli

A module imports from lower layers and its own package. In addition: `models` never import `video`, `processing` or
`data`; `video` never imports transformers; a family imports another only if `FAMILIES` allows it; a task never imports
another. `assets` hold no code. `__init__`, `registration` and the tables of `auto` and `tasks` are the front door:
they name modules as text and import nothing heavy. A name imported through the front door counts as imported from its
module.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import internvideo_hf
from internvideo_hf import auto as families

PACKAGE = "internvideo_hf"
ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / PACKAGE

LAYERS = (
    ("utils",),
    ("recipes",),
    ("video",),
    ("models",),
    ("data", "processing"),
    ("auto",),
    ("checkpoints",),
    ("inference",),
    ("tasks",),
    ("training", "evaluation", "search", "curation"),
    ("serving",),
    ("demo",),
    ("export",),
    ("cli",),
    ("__main__",),
)
HEIGHT = {part: height for height, parts in enumerate(LAYERS) for part in parts}
FRONT_DOOR = ("", "registration")
BEHIND_FRONT_DOOR = ("auto", "registration", "tasks", "utils")  # tables of text, and old names
USE_FRONT_DOOR = ("demo", "export", "cli", "__main__")
PIXELS = ("video", "processing", "data")
FAMILIES = {"internvideo_mm": {"uniformerv2"}, "internvideo": {"internvideo_mae", "uniformerv2"}}
AT_THE_TOP = 3  # modules beside `__init__`


def imports_of(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Every module that some source imports, anywhere in it, by full name; `from a import b` gives `a.b`.

    `importlib.import_module` of a literal name counts as an import.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".") if is_package else module.split(".")[:-1]
            above = parents[: len(parents) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def behind_the_front_door(name: str) -> str:
    """Return the module that defines a public name."""
    head, _, public = name.partition(".")
    return f"{internvideo_hf._EXPORTS[public]}.{public}" if public in internvideo_hf._EXPORTS else name


def part_of(name: str) -> str:
    """`internvideo_hf.video.reader.VideoReader` -> `video`; the package itself -> ``."""
    return [*name.split("."), ""][1]


def room_of(name: str) -> str:
    """`internvideo_hf.models.viclip.modeling_viclip` -> `viclip`."""
    return [*name.split("."), "", ""][2]


def complaints(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return the violations of the rules by a module's imports."""
    found = []
    part = part_of(module)
    if part not in HEIGHT and part not in FRONT_DOOR:
        return [f"{module} stands in no layer; give {part!r} its place in LAYERS and in the plan"]
    for name in imports_of(source, module, is_package):
        if part == "video" and name.split(".")[0] == "transformers":
            found.append(f"{module} imports {name}: video never sees transformers")
        if name.split(".")[0] != PACKAGE:
            continue
        target = part_of(behind_the_front_door(name))
        if part in FRONT_DOOR:
            if target not in BEHIND_FRONT_DOOR:
                found.append(f"{module} imports {name}: the front door imports nothing of the package but tables")
        elif target == "":
            if part not in USE_FRONT_DOOR:
                found.append(f"{module} imports {name}: only {' and '.join(USE_FRONT_DOOR)} use the front door")
        elif target not in HEIGHT:
            found.append(f"{module} imports {name}, which stands in no layer")
        elif part == "models" and target in PIXELS:
            found.append(f"{module} imports {name}: models never see {', '.join(PIXELS)}")
        elif part == target == "models":
            family, other = (room_of(path) for path in (module, behind_the_front_door(name)))
            if family != other and other != "common" and other not in FAMILIES.get(family, ()):
                found.append(f"{module} imports {name}: the family {family} may not import {other}")
        elif part == target == "tasks":
            task, other = (room_of(path) for path in (module, behind_the_front_door(name)))
            if task != other and (SOURCE / "tasks" / other).is_dir():
                found.append(f"{module} imports {name}: the task {task} may not import {other}")
        elif part != target and HEIGHT[target] >= HEIGHT[part]:
            found.append(f"{module} imports {name}: {target} does not stand below {part}")
    return found


def modules() -> dict[str, Path]:
    """All modules of the package by full name."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


@pytest.mark.parametrize("module", sorted(modules()))
def test_module_imports_only_what_stands_below_it(module: str) -> None:
    path = modules()[module]
    assert complaints(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("video.reader", "import transformers.video_utils", "never sees transformers"),
        ("video.reader", "def read():\n    from transformers import AutoModel", "never sees transformers"),
        ("video.reader", "from internvideo_hf.processing import processing", "does not stand below video"),
        ("models.common.layers", "from internvideo_hf.models.viclip import modeling_viclip", "may not import viclip"),
        ("models.viclip.modeling_viclip", "from internvideo_hf.video import VideoReader", "models never see"),
        ("models.viclip.modeling_viclip", "from internvideo_hf import VideoReader", "models never see"),
        ("models.viclip.modeling_viclip", "from ...processing import processing", "models never see"),
        ("models.viclip.modeling_viclip", "import internvideo_hf.auto", "does not stand below models"),
        ("models.viclip.modeling_viclip", "import internvideo_hf", "use the front door"),
        ("models.viclip.modeling_viclip", "from internvideo_hf import UniFormerV2Model", "may not import uniformerv2"),
        ("models.uniformerv2.modeling_uniformerv2", "from ..internvideo_mm import x", "may not import internvideo_mm"),
        ("processing.processing", "from internvideo_hf.data import samples", "does not stand below processing"),
        ("data.manifests", "from internvideo_hf.auto import FAMILIES", "does not stand below data"),
        ("auto", "from internvideo_hf import convert_checkpoint", "does not stand below auto"),
        ("checkpoints.convert", "from internvideo_hf.cli import main", "does not stand below checkpoints"),
        ("inference.embedder", "from internvideo_hf.tasks.retrieval import task", "does not stand below inference"),
        ("tasks.retrieval.task", "from internvideo_hf.tasks.contrastive import task", "may not import contrastive"),
        ("training.trainer", "import internvideo_hf.evaluation.run", "does not stand below training"),
        ("search.index", "from internvideo_hf.demo.web import serving", "does not stand below search"),
        ("demo.tour", "from internvideo_hf.cli.checks import run_checks", "does not stand below demo"),
        ("cli.checks", "from internvideo_hf import registration", "which stands in no layer"),
        ("registration", "import internvideo_hf.models", "front door imports nothing"),
        ("utils.files", "importlib.import_module('internvideo_hf.models')", "does not stand below utils"),
        ("helpers", "", "stands in no layer"),
    ],
)
def test_rules_find_a_made_up_violation(module: str, source: str, complaint: str) -> None:
    found = complaints(source, f"{PACKAGE}.{module}")
    assert len(found) == 1 and complaint in found[0], found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("video.reader", "import numpy, torch\nfrom internvideo_hf.video.index import FrameIndex"),
        ("models.internvideo_mm.modeling", "from internvideo_hf.models.uniformerv2.modeling import UniFormerV2Model"),
        ("models.internvideo.modeling", "from internvideo_hf.models.internvideo_mae import modeling"),
        ("models.viclip.modeling_viclip", "from internvideo_hf.models.common.layers import MLP\nimport transformers"),
        ("processing.processing", "from internvideo_hf.video import SAMPLERS\nfrom .tokenizer import build"),
        ("checkpoints.convert", "from internvideo_hf import auto"),
        ("tasks.retrieval.task", "from internvideo_hf.tasks.base import Task"),
        ("cli", "import internvideo_hf\nfrom internvideo_hf.cli.checks import run_checks"),
    ],
)
def test_rules_leave_what_is_allowed_alone(module: str, source: str) -> None:
    assert complaints(source, f"{PACKAGE}.{module}") == []


def test_scripts_and_tests_are_imported_by_no_module() -> None:
    outside = {"examples", "benchmarks", "tests", "conversion"}
    for module, path in modules().items():
        names = imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
        assert not {name.split(".")[0] for name in names} & outside, module


def test_few_modules_stand_at_the_top() -> None:
    assert len([path for path in SOURCE.glob("*.py") if path.name != "__init__.py"]) <= AT_THE_TOP


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = modules()
    names = {
        module: imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
        for module, path in known.items()
    }
    arrows = {
        module: {found for name in taken if (found := nearest_module(name, known)) not in (None, module)}
        for module, taken in names.items()
    }
    # What nobody imports any more is peeled off until nothing is left, or a circle.
    while free := {module for module in arrows if not any(module in taken for taken in arrows.values())}:
        for module in free:
            del arrows[module]
    # The front door's tables are imported by the package, which every submodule's import runs.
    assert set(arrows) <= {PACKAGE, *(f"{PACKAGE}.{name}" for name in BEHIND_FRONT_DOOR)}, sorted(arrows)


def nearest_module(name: str, known: dict[str, Path]) -> str | None:
    """Return the module of an imported name; None outside the package."""
    name = behind_the_front_door(name)
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


# Policy knows no family by name: it asks tables and processors.

POLICY = ("training", "evaluation", "search", "curation", "serving", "cli", "inference")
NAMES_OF_FAMILIES = set(families.FAMILIES) - {"internvideo"}  # which is the program's name as well
KNOWS_FAMILIES = {
    ("training.parameter_groups", "uniformerv2"): "a rule of weight decay, named after the code that has it",
    ("training.parameter_groups", "viclip"): "the same",
    ("training.parameter_groups", "internvideo_mm"): "the same",
    ("training.parameter_groups", "actionformer"): "the same",
    ("training.recipes", "uniformerv2"): "a key of recipes of version 0.1",
    ("cli.checks", "uniformerv2"): "the model that the checks of attention run, any would do",
    ("cli.models", "internvideo_mae"): "an option of `fuse`, which fuses models of these two families",
    ("cli.models", "uniformerv2"): "the same",
}


def families_in(source: str) -> set[str]:
    """Return the families that some source names in code: imports, identifiers and strings of one word."""
    words: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.search(r"\s", node.value):
            words.append(node.value)
        elif isinstance(node, ast.ImportFrom):
            words.append(node.module or "")
        words += [getattr(node, field) or "" for field in ("id", "attr", "arg", "name") if hasattr(node, field)]
    code, found = " ".join(words).lower(), set()
    for name in sorted(NAMES_OF_FAMILIES, key=len, reverse=True):  # one family's name begins another's
        if name in code or name.replace("_", "") in code:
            found.add(name)
            code = code.replace(name, "").replace(name.replace("_", ""), "")
    return found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from internvideo_hf.models.viclip.modeling_viclip import ViCLIPModel", {"viclip"}),
        ("if config.model_type == 'uniformerv2': pass", {"uniformerv2"}),
        ("UniFormerModel, UniFormerV2Model", {"uniformer", "uniformerv2"}),
        ("model.internvideo_mae.layers", {"internvideo_mae"}),
        ("isinstance(model, InternVideoMMModel)", {"internvideo_mm"}),
        ('"""Fuses VideoMAE and UniFormerV2."""\nprint("not for viclip")', set()),
    ],
)
def test_names_of_families_are_found_in_code(source, names):
    assert families_in(source) == names


def test_policy_knows_no_family() -> None:
    found = {
        (module.removeprefix(f"{PACKAGE}."), name)
        for module, path in modules().items()
        if part_of(module) in POLICY
        for name in families_in(path.read_text(encoding="utf-8"))
    }
    assert found == set(KNOWS_FAMILIES), "ask `auto.FAMILIES` or the processor, or give the reason"


def test_every_module_has_tests_of_its_name() -> None:
    paths = [path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if not path.name.startswith("__")]
    missing = [str(path) for path in paths if not (ROOT / "tests" / path.with_name(f"test_{path.name}")).is_file()]
    assert missing == []


def test_assets_hold_no_code() -> None:
    assert not list((SOURCE / "assets").rglob("*.py"))


# The front door


def test_every_public_name_resolves_and_is_listed() -> None:
    for name in internvideo_hf.__all__:
        value = getattr(internvideo_hf, name)
        assert value.__name__ == name
        assert value is getattr(importlib.import_module(internvideo_hf._EXPORTS[name]), name)
    assert set(internvideo_hf.__all__) <= set(dir(internvideo_hf))


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="internvideo_hf.*InternVideoGPT"):
        _ = internvideo_hf.InternVideoGPT
    assert not hasattr(internvideo_hf, "InternVideoGPT")
