"""Publish a model's folder on the Hub: what belongs to a model, with a card that says what it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoConfig

from internvideo_hf.models.common.exported.manifest import EXPORT_FILE, is_exported
from internvideo_hf.utils.loader import MODULE, SavedWithLoader, files_with_loader
from internvideo_hf.utils.names import is_repository_name, reason_of
from internvideo_hf.utils.pretrained import check_model_folder, load_pretrained

_TRAINING = "of training, not of the model"
# Pattern of a file's name -> why it stays behind. The first that fits counts.
_LEFT_OUT = (
    (re.compile(r"\..*|.*\.(tmp|lock|part)"), "hidden or temporary"),
    (re.compile(r"(optimizer|scheduler|scaler|rng_state|random_states|training_args|trainer_state).*"), _TRAINING),
    (re.compile(r"events\.out\.tfevents.*|.*\.(jsonl|log)"), "a log"),
    (re.compile("SHA256SUMS"), "sums of files, some of which stay here"),
)
_KEPT = re.compile(
    rf".*\.(safetensors|json|md|txt|yaml|jinja|model)|pytorch_model.*\.bin|LICENSE.*|NOTICE|{MODULE}\.py"
)
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", EXPORT_FILE)


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        address: of the commit, or of the pull request.
        files: names in the repository.
        left_out: names of files and folders that stayed behind -> why.
    """

    address: str
    files: tuple[str, ...]
    left_out: Mapping[str, str]


def push_folder(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    create_pr: bool = False,
) -> Published:
    """Publish a model's folder in one commit; the repository is created if it is missing.

    Args:
        folder: of a model, with its card.
        name: of the repository, "owner/name".
        private: create a private repository; otherwise as the owner's settings say. An existing one stays as it is.
        revision: branch to commit to, created if it is missing; the main one if None.
        message: of the commit.
        create_pr: open a pull request, instead of committing.

    Raises:
        ValueError: if the folder holds no model, its card is missing or incomplete, the name is none of the Hub, or a
            pull request is asked for another branch than the main one.
        OSError: if the Hub does not answer, or refuses.
    """
    folder = Path(folder)
    check_publishable(folder)
    if not is_repository_name(name):
        raise ValueError(f"{name!r} is no repository of the Hub, expected owner/name, such as you/{folder.name}.")
    if create_pr and revision is not None:
        raise ValueError(
            f"A pull request is for the main branch, not for {revision}: leave out --revision or --create-pr (in "
            "Python, revision and create_pr)."
        )
    files, left_out = files_to_publish(folder)
    added = _loader_of(folder)
    files = tuple(sorted({*files, *added}))
    operations = [CommitOperationAdd(file, added.get(file, folder / file)) for file in files]
    api = HfApi()
    try:
        api.create_repo(name, private=private or None, exist_ok=True)  # None: as the owner's other repositories
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        commit = api.create_commit(
            name,
            operations,
            commit_message=message or "Upload the model",
            revision=revision,
            create_pr=create_pr,
        )
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status not in (401, 403):
            raise
        raise PermissionError(
            f"The Hub does not let you write to {name} ({status}). Log in by `hf auth login`, or set HF_TOKEN, with a "
            "token that may write there."
        ) from error
    except Exception as error:
        # Of the library beneath, which is not the same in all versions.
        if not type(error).__name__.startswith("Connect"):
            raise
        raise OSError(
            f"The Hub at {constants.ENDPOINT} does not answer ({reason_of(error)}). Check the network, or HF_ENDPOINT."
        ) from error
    return Published(str(commit.pr_url or commit.commit_url), files, left_out)


def _loader_of(folder: Path) -> dict[str, bytes]:
    """Return what a folder of this package lacks for others to load it: older versions saved it without."""
    config = load_pretrained(AutoConfig, folder)
    return files_with_loader(folder, config.auto_classes()) if isinstance(config, SavedWithLoader) else {}


def check_publishable(folder: Path) -> None:
    """Refuse a folder that is no model's, or whose card does not say what others need to know.

    Args:
        folder: to publish.

    Raises:
        ValueError: naming what is missing, and how to add it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder. Give the folder of a model, as `internvideo convert` writes it.")
    check_model_folder(folder)
    if not (folder / "config.json").is_file() or not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise ValueError(
            f"{folder} holds no model: config.json and weights (model.safetensors) are expected. Give a folder that "
            "`internvideo convert` or `internvideo train` wrote."
        )
    file = folder / "README.md"
    if not file.is_file():
        raise ValueError(
            f"{folder} has no card. Write {file}: what the model is, what it has learned from, and in front of it "
            "`license` and `tags` between lines of `---`."
        )
    try:
        data = ModelCard.load(file).data
    except (ValueError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise ValueError(f"The head of {file} is not valid YAML ({cause}). Mend what is between its `---`.") from error
    for field in ("license", "tags"):
        if not data.get(field):
            raise ValueError(f"{file} has no {field}. Add `{field}:` to its head, between the lines of `---`.")


def files_to_publish(folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the files of a model's folder that belong to the model, and the others with the reason.

    Args:
        folder: of a model; a folder in it with a config.json is a part of the model, such as an encoder.
    """
    files: list[str] = []
    left_out: dict[str, str] = {}
    exported = is_exported(folder)
    for path in sorted(folder.iterdir()):
        reason = next((reason for pattern, reason in _LEFT_OUT if pattern.fullmatch(path.name)), None)
        if path.is_dir():
            if reason is None and (path / "config.json").is_file() and not path.name.startswith("checkpoint-"):
                inner, left = files_to_publish(path)
                files += [f"{path.name}/{file}" for file in inner]
                left_out |= {f"{path.name}/{file}": why for file, why in left.items()}
            else:
                left_out[path.name] = reason or "no part of the model"
        elif reason is not None or not (exported or _KEPT.fullmatch(path.name)):
            left_out[path.name] = reason or "no file of a model"
        else:
            files.append(path.name)
    return tuple(files), left_out
