"""Registration with transformers that costs nothing until transformers is used.

`import internvideo_hf` must make `AutoModel` and `pipeline` know our families, and must not import torch, which alone
takes seconds. So registration waits for the modules of transformers that it registers with. It cannot run the moment
one of them has been imported: transformers imports its Auto classes in the middle of importing modules that our models
need. It runs when the outermost of these imports is over.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# A module of transformers -> the module of ours whose `register` registers with it when it is imported.
REGISTRATIONS = {
    "transformers.models.auto.configuration_auto": "internvideo_hf.auto",
    "transformers.pipelines": "internvideo_hf.tasks",
}
_done: set[str] = set()

WATCHED = ("transformers", "internvideo_hf.")


def register_what_is_due() -> None:
    """Register with the modules of transformers that have been imported, unless an import is under way."""
    names = [name for name in tuple(sys.modules) if name.startswith(WATCHED)]
    if any(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False) for name in names):
        return
    for theirs, ours in REGISTRATIONS.items():
        if theirs in sys.modules and ours not in _done:
            _done.add(ours)  # first: registering imports modules, each of which asks again
            importlib.import_module(ours).register()


class RegisterAfterImport(MetaPathFinder):
    """Finds nothing itself: lets the other finders find modules, and looks for due registrations after each."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(WATCHED) or _done.issuperset(REGISTRATIONS.values()):
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: run_then_register(run, module)  # type: ignore[method-assign]
        return spec


def run_then_register(run: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run a module's code, then register what is due."""
    run(module)
    # importlib does so itself, but only after this function
    module.__spec__._initializing = False  # type: ignore[union-attr]
    register_what_is_due()


sys.meta_path.insert(0, RegisterAfterImport())
