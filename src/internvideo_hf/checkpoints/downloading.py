"""Downloads of released files: from the Hub where they are there, else from their own addresses."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.file_download import http_get

from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.matching import GENERIC_NAMES
from internvideo_hf.utils.fingerprints import file_sha256
from internvideo_hf.utils.locks import lock_file

# Where the authors put released files since their first addresses vanished; a file is found there by its name.
HUB_REPOSITORIES = ("OpenGVLab/InternVideo1.0", "OpenGVLab/ViCLIP")
_PATIENCE = 10  # seconds that the Hub has to list a repository


def download(row: Mapping[str, Any], folder: Path) -> Path:
    """Download the file of a released model, or go on with a download that was interrupted.

    Args:
        row: of `released_rows`.
        folder: for files that are not on the Hub.

    Returns:
        The file, in the Hub's cache or in the folder, where it stays.

    Raises:
        CheckpointError: if the file cannot be had; the message says what to do.
    """
    file_name = PurePosixPath(row["file"]).name
    reasons = []
    # Names that any training run gives its files say nothing.
    for repository in HUB_REPOSITORIES if file_name not in GENERIC_NAMES else ():
        try:
            if (found := _from_hub(repository, file_name)) is not None:
                return found
            reasons.append(f"{repository} on the Hub has no {file_name}")
        except _NoAnswerError as error:
            reasons.append(str(error))
    address = row["address"]
    if address is not None and address.startswith(("https://", "http://")) and address.endswith(f"/{file_name}"):
        try:
            return _from_address(address, folder / file_name)
        except _NoAnswerError as error:
            reasons.append(str(error))
    elif address is not None:
        reasons.append(f"{address} is a page, from which a browser downloads it")
    note = f" Known about it: {row['note']}." if row["note"] else ""
    raise CheckpointError(
        f"{row['name']} cannot be downloaded: {'; '.join(reasons) or 'no address is known'}.{note} If you have "
        f'{file_name}: internvideo released "{row["name"]}" --from FILE.'
    )


class _NoAnswerError(Exception):
    """A source does not have the file, or does not answer."""


@contextmanager
def _in_words(source: str) -> Iterator[None]:
    """Raise the many errors of a download as two: the source has no file for us, or the user can do something."""
    try:
        yield
    except GatedRepoError as error:
        raise CheckpointError(
            f"{source} asks for consent before it gives its files. Agree on https://huggingface.co/{source}, "
            "and log in with `hf auth login`."
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub does not answer"
        raise _NoAnswerError(f"{source}: {why}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        raise _NoAnswerError(f"{source} answers with the error {status or error}") from error
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # of this machine's disk
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise _NoAnswerError(f"{source} does not answer ({reason})") from error


def _from_hub(repository: str, file_name: str) -> Path | None:
    """Download a file from a repository, or return None if none there has its name."""
    with _in_words(repository):
        info = HfApi().model_info(repository, files_metadata=True, timeout=_PATIENCE)
        siblings = info.siblings or []
        entry = next((entry for entry in siblings if PurePosixPath(entry.rfilename).name == file_name), None)
        if entry is None:
            return None
        file = Path(hf_hub_download(repository, entry.rfilename, revision=info.sha))
    if entry.lfs is not None:
        _check_hash(file, entry.lfs.sha256)
    return file


def _from_address(address: str, file: Path) -> Path:
    """Download a file, or the rest of it."""
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    with lock_file(file), _in_words(address):
        if constants.HF_HUB_OFFLINE:
            raise _NoAnswerError(f"{address}: HF_HUB_OFFLINE is set")
        with part.open("ab") as opened:
            http_get(address, opened, resume_size=opened.tell(), displayed_filename=file.name)
        part.rename(file)
    return file


def _check_hash(file: Path, expected: str) -> None:
    if (found := file_sha256(file)) != expected:
        file.resolve().unlink()  # in the Hub's cache it is a link
        raise CheckpointError(
            f"{file.name} arrived with other bytes than its source states (SHA-256 {found[:12]}..., "
            f"expected {expected[:12]}...). It was deleted; run the same command again."
        )
