"""Strict reader of recipes, for training and for evaluation: every key is known and every value of the right kind.

`extends` inherits another recipe: mappings are merged key by key, other values replaced. A file whose name begins with
an underscore exists to be extended, and is not a recipe by itself.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from importlib import resources
from itertools import chain
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from internvideo_hf.utils.names import did_you_mean, nearest, reason_of, with_article

_LONGEST, _MOST_VALUES = 200_000, 20_000  # characters, and values, of a recipe


class RecipeError(ValueError):
    """A recipe is invalid; the message says where, what was expected, and what to do."""


@dataclass(frozen=True)
class RecipeRegistry:
    """The recipes of a folder of the package, by names such as "videomae/finetune_base_k400".

    Args:
        folder: below `internvideo_hf.recipes`; "" for that itself.
        listed_by: the command that lists them, for messages.
        example: a change of a value, for messages.
    """

    folder: str
    listed_by: str
    example: str = "training.learning_rate=1e-4"

    @cached_property
    def files(self) -> dict[str, Any]:
        """Name -> file."""
        root, found = resources.files("internvideo_hf.recipes"), {}
        for folder in (root.joinpath(self.folder) if self.folder else root).iterdir():
            if folder.is_dir():
                for file in folder.iterdir():
                    if file.name.endswith(".yaml"):
                        found[f"{folder.name}/{file.name.removesuffix('.yaml')}"] = file
        return found

    def names(self) -> list[str]:
        """List the recipes, without the files that are only extended."""
        return sorted(name for name in self.files if not name.rpartition("/")[2].startswith("_"))

    def read(self, name: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """Read a recipe merged with all that it extends, and override values.

        Args:
            name: one of `names()`, or the path of a file that ends in .yaml.
            overrides: such as "training.learning_rate=1e-4" or "data.mixup=null"; the value is read as YAML.

        Raises:
            RecipeError: if there is no such recipe, its YAML is invalid, or an override is.
        """
        content: dict[str, Any] = {}
        for _, layer in self.layers(name):
            content = fill_up(content, layer)
        for override in overrides:
            _override(content, override, self.example)
        return content

    def layers(self, name: str | Path) -> list[tuple[str, dict[str, Any]]]:
        """Read a recipe's own content and that of the recipes it extends.

        Returns:
            (name, content) of each, from the one that extends nothing to the recipe itself.

        Raises:
            RecipeError: as `read`.
        """
        layers: list[tuple[str, dict[str, Any]]] = []
        current, seen = str(name), set()
        while True:
            try:
                content = _parse(*self._find(current))
            except RecipeError as error:
                raise RecipeError(f"{layers[0][0]} extends {current!r}: {error}" if layers else str(error)) from error
            base = content.pop("extends", None)
            layers.insert(0, (current, content))
            if base is None:
                return layers
            seen.add(str(Path(current).resolve()) if current.endswith(".yaml") else current)
            if not isinstance(base, str):
                raise RecipeError(f"{current}: extends is {base!r}, expected one name of a recipe, or a .yaml file.")
            if base.endswith(".yaml"):  # beside a file of the user's
                base = str((Path(current).parent / base).resolve())
            current = base
            if current in seen:
                chain = " and ".join(layer for layer, _ in layers)
                raise RecipeError(f"{current} extends itself through {chain}. Break the cycle.")

    def show(self, name: str | Path) -> str:
        """Write a recipe, and all that it extends, as YAML that says of each value where it is set.

        Args:
            name: as of `read`.

        Raises:
            RecipeError: as `read`.
        """
        marked: dict[str, Any] = {}
        for source, layer in self.layers(name):
            marked = fill_up(marked, _mark(layer, source))
        return "\n".join(_annotated(marked))

    def _find(self, name: str) -> tuple[str, str]:
        """Return the text of a recipe, and its name in messages."""
        if name.endswith(".yaml"):
            try:
                with Path(name).open(encoding="utf-8") as file:
                    return file.read(_LONGEST + 1), name
            except (OSError, UnicodeDecodeError) as error:
                raise RecipeError(f"{name} cannot be read ({reason_of(error)}). Give the path of a recipe.") from error
        if name not in self.files:
            hint = did_you_mean(nearest(name, self.names(), n=3, cutoff=0.4))
            raise RecipeError(f"No recipe {name!r}.{hint} `{self.listed_by}` lists all; a path must end in .yaml.")
        return self.files[name].read_text(encoding="utf-8"), name


TRAININGS = RecipeRegistry("", "internvideo recipes")
"""The released training runs, and those of the demo."""
EVALUATIONS = RecipeRegistry("evaluation", "internvideo evaluate --list", "processor.num_frames=16")
"""The published evaluations."""
PROBES = RecipeRegistry("probes", "internvideo probe --help", "epochs=50")
"""The classifiers on frozen features."""


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, which YAML 1.1 writes 1.0e-3, and in which keys are unique."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if doubled := {str(key) for key in keys if keys.count(key) > 1}:
            raise yaml.YAMLError(f"{', '.join(sorted(doubled))} is set twice")
        return super().construct_mapping(node, deep)


# YAML 1.1 reads "no" as a Boolean, and it is a strategy of the Trainer.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def load_yaml(text: str, name: str, loader: type[yaml.SafeLoader] = _Loader) -> Any:
    """Return the content of a YAML text of a recipe's size.

    Args:
        text: the YAML.
        name: of the text, for messages.
        loader: what its plain values mean; those of recipes by default.

    Raises:
        RecipeError: if it is invalid, or grows to a size that no recipe has by aliases that repeat each other.
    """
    if len(text) > _LONGEST:
        raise RecipeError(f"{name} has {len(text)} characters, more than the {_LONGEST} that a recipe may have.")
    try:
        reading = loader(text)
        node = reading.get_single_node()
        counts: dict[int, int | None] = {}
        if node is not None and (values := _count(node, counts)) > _MOST_VALUES:
            parts = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else [node]
            line = max(parts, key=lambda part: counts[id(part)] or 0).start_mark.line + 1
            raise RecipeError(
                f"{name}: the value that begins in line {line} has {values} values once its aliases (*name) are "
                f"written out, expected at most {_MOST_VALUES}. Write the settings without aliases."
            )
        return None if node is None else reading.construct_document(node)
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as of a day 32, and of 1000 brackets
        raise RecipeError(f"{name} is not valid YAML: {_cause_of(error)}. Correct it.") from error


def _cause_of(error: Exception) -> str:
    """Return what is wrong in one line: YAML's own message draws the place below it."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return " ".join(str(error).split()).rstrip(".")
    return f"{problem} in line {mark.line + 1}, column {mark.column + 1}"


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return the number of values below a node with aliases written out."""
    if id(node) in known:
        if (values := known[id(node)]) is None:
            raise yaml.YAMLError(f"an alias in line {node.start_mark.line + 1} repeats the value that it is part of")
        return values
    known[id(node)] = None
    below = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = chain.from_iterable(below) if isinstance(node, yaml.MappingNode) else below
    values = known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return values


def _parse(text: str, name: str) -> dict[str, Any]:
    content = load_yaml(text, name)
    if not isinstance(content, dict):
        held = "nothing" if content is None else with_article(type(content).__name__)
        raise RecipeError(f"{name} holds {held}, expected settings by name. Write `name: value` lines.")
    return content


def fill_up(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `own` into `base`: mappings key by key, other values replaced."""
    filled = dict(base)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(filled.get(key), dict)
        filled[key] = fill_up(filled[key], value) if both else value
    return filled


@dataclass(frozen=True)
class _Set:
    """A value of a recipe, and the recipe that sets it."""

    value: Any
    source: str


def _mark(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    return {
        key: _mark(value, source) if isinstance(value, Mapping) else _Set(value, source)
        for key, value in content.items()
    }


def _annotated(marked: Mapping[str, Any]) -> list[str]:
    """Write lines of YAML, each value with a comment that names its source."""
    lines = []
    for key, entry in marked.items():
        value = entry.value if isinstance(entry, _Set) else {}
        dumped = yaml.dump({key: value}, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=math.inf)
        written = dumped.splitlines()
        if isinstance(entry, _Set):
            # A comment ends a line: the first of a list, the last of a text.
            written[0 if isinstance(value, list) else -1] += f"  # from {entry.source}"
        elif entry:
            written = [dumped.removesuffix(" {}\n"), *(f"  {line}" for line in _annotated(entry))]
        lines += written
    return lines


def _override(content: dict[str, Any], override: str, example: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"Got {override!r}, expected key=value, such as {example}.")
    value = load_yaml(text, f"{override[:200]!r}: the value")
    *parents, last = path.split(".")
    place = content
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise RecipeError(f"{override!r}: {parent} is a value, not a section of settings.")
    place[last] = value


def check_known(key: Any, known: Collection[str], name: str, where: str) -> None:
    """Refuse an unknown key, naming the nearest.

    Args:
        key: what the recipe has.
        known: the known keys.
        name: of the recipe.
        where: prefix of the key, such as "training.".

    Raises:
        RecipeError: if the key is unknown.
    """
    if key not in known:
        close = nearest(key, known)
        hint = did_you_mean(close, where) if close else f" Known: {', '.join(sorted(known))}."
        raise RecipeError(f"{name}: unknown setting {where}{key}.{hint}")


def build(kind: type, content: Any, name: str, where: str = "") -> Any:
    """Build a dataclass, and the dataclasses of its fields and lists, from a recipe's content.

    Args:
        kind: the dataclass.
        content: settings by name.
        name: of the recipe.
        where: prefix of the keys, such as "training.".

    Raises:
        RecipeError: if a key is unknown or missing, or a value of the wrong kind.
    """
    if not isinstance(content, Mapping):
        raise RecipeError(f"{name}: {where.rstrip('.')} holds {content!r}, expected settings by name.")
    hints, values = get_type_hints(kind), {}
    for key, value in content.items():
        check_known(key, hints, name, where)
        values[key] = _build_value(hints[key], value, name, f"{where}{key}")
    needed = [entry.name for entry in fields(kind) if entry.default is entry.default_factory is MISSING]
    if missing := [key for key in needed if key not in values]:
        raise RecipeError(f"{name}: {', '.join(where + key for key in missing)} must be given.")
    return kind(**values)


def _build_value(hint: Any, value: Any, name: str, where: str) -> Any:
    part = next((kind for kind in (hint, *get_args(hint)) if hasattr(kind, "__dataclass_fields__")), None)
    if part is None or (value is None and NoneType in get_args(hint)):
        check_kind(value, hint, name, where)
        return value
    if get_origin(hint) is not list:
        return build(part, value, name, f"{where}.")
    check_kind(value, hint, name, where)
    return [build(part, entry, name, f"{where}.{number}.") for number, entry in enumerate(value)]


def check_kind(value: Any, hint: Any, name: str, where: str) -> None:
    """Refuse a value whose YAML type a type hint excludes; hints of other types pass."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = tuple(get_origin(kind) or kind for kind in kinds)
    plain = (bool, int, float, str, dict, list, NoneType)
    if not all(kind in plain for kind in kinds):
        kinds = tuple(kind for kind in kinds if kind in plain) or plain
    # Python calls True an int; a recipe does not. A whole number is a fine float.
    fits = type(value) in kinds or (float in kinds and type(value) is int)
    if not fits:
        expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
        raise RecipeError(f"{name}: {where} is {value!r}, expected {expected}.")
