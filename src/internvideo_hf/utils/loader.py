"""What lets transformers load a folder without `import internvideo_hf`: `auto_map`, and the module that it names."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from internvideo_hf.utils.files import atomic_write_text

MODULE = "internvideo_loader"
"""Name of the module beside the settings, without ".py"."""
_SOURCE = '''"""Hands the classes of the package internvideo-hf to transformers; no code of the model is here."""

try:
    import internvideo_hf
except ModuleNotFoundError as error:
    if error.name != "internvideo_hf":
        raise
    message = "The classes of this model are in the package internvideo-hf: pip install internvideo-hf"
    raise ModuleNotFoundError(message, name="internvideo_hf") from error


def __getattr__(name):
    return getattr(internvideo_hf, name)
'''
_PROCESSORS = {
    "AutoProcessor": ("processor_class", ("InternVideoProcessor",)),
    "AutoVideoProcessor": ("video_processor_type", ("InternVideoVideoProcessor", "InternVideoFusedVideoProcessor")),
}
"""Auto class -> the setting that names the class, and its values."""


class SavedWithLoader:
    """A configuration or processor that, where it is saved, says where its class is, and writes the module there.

    Loaded by transformers with `trust_remote_code=True`, the folder then imports the installed package.

    Attributes:
        loaded_by: the Auto class that loads a processor.
    """

    loaded_by: ClassVar[str]

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Change nothing: transformers would write this class's source into folders; the module imports it.

        Args:
            auto_class: ignored.
        """

    def auto_classes(self) -> dict[str, str]:
        """Return the Auto classes that load the folder -> the names of the classes that they return."""
        return {self.loaded_by: type(self).__name__}

    def to_json_file(self, json_file_path: Any, *args: Any, **kwargs: Any) -> None:
        """Write the settings, and the module beside them; see transformers' `to_json_file`.

        Args:
            json_file_path: the file.
            args: see there.
            kwargs: see there.
        """
        super().to_json_file(json_file_path, *args, **kwargs)  # type: ignore[misc]  # of the class beside this one
        file = Path(json_file_path)
        content = json.loads(file.read_text(encoding="utf-8"))
        atomic_write_text(file, json.dumps(_with_map(content, self.auto_classes()), indent=2) + "\n")
        write_module(file.parent)


def write_module(folder: Path) -> None:
    """Write the module that `auto_map` names.

    Args:
        folder: of the settings.
    """
    atomic_write_text(folder / f"{MODULE}.py", _SOURCE)


def files_with_loader(folder: Path, classes: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files by which others load a folder that was saved without them: settings with `auto_map`, a module.

    Args:
        folder: of a model of this package.
        classes: Auto class -> name of the class, of its configuration.
    """
    found: dict[str, bytes] = {}
    for name in ("config.json", "processor_config.json", "video_preprocessor_config.json"):
        if not (folder / name).is_file():
            continue
        content, by = json.loads((folder / name).read_text(encoding="utf-8")), dict(classes)
        if name != "config.json":
            by = {
                auto_class: content[setting]
                for auto_class, (setting, names) in _PROCESSORS.items()
                if content.get(setting) in names
            }
        if by and "auto_map" not in content:
            found[name] = (json.dumps(_with_map(content, by), indent=2) + "\n").encode()
    return {**found, f"{MODULE}.py": _SOURCE.encode()} if found else {}


def _with_map(content: Mapping[str, Any], classes: Mapping[str, str]) -> dict[str, Any]:
    inner = content.get("video_processor")
    if isinstance(inner, Mapping):  # a processor's, which AutoVideoProcessor loads, too
        content = {
            **content,
            "video_processor": _with_map(inner, {"AutoVideoProcessor": inner["video_processor_type"]}),
        }
    names = {auto_class: f"{MODULE}.{name}" for auto_class, name in classes.items()}
    return dict(sorted({**content, "auto_map": names}.items()))  # no deeper: numbered classes are in their order


def is_own_map(content: Mapping[str, Any]) -> bool:
    """Return whether the `auto_map` of settings names classes that this package has registered, and nothing else.

    transformers has code of its own for such settings, and does not ask whether to run the folder's.

    Args:
        content: the settings, with `auto_map`.
    """
    auto_map, package = content["auto_map"], sys.modules[__name__.partition(".")[0]]
    if not isinstance(auto_map, Mapping):
        return False
    for auto_class, reference in auto_map.items():
        module, _, name = str(reference).partition(".")
        if module != MODULE or name not in dir(package):
            return False
        if auto_class in _PROCESSORS:
            setting, names = _PROCESSORS[auto_class]
            if name not in names or content.get(setting) != name:
                return False
        elif auto_class == "AutoConfig":
            if getattr(getattr(package, name), "model_type", None) != content.get("model_type"):
                return False
        elif not auto_class.startswith("AutoModel") or "AutoConfig" not in auto_map:
            return False
    return True
