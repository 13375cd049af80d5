"""Which store an address means."""

from pathlib import Path
from typing import Any

from internvideo_hf.search.stores import lance, postgres
from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.local import HEADER, LocalStore


def new_store(settings: dict[str, Any], address: str | Path | None) -> VectorStore:
    """Return an empty store.

    Args:
        settings: of the index, see `base.SETTINGS`.
        address: a folder, or an address with a scheme; None keeps the rows in memory.

    Raises:
        ImportError: if the store needs a package that is not installed.
        ValueError: if there is something already.
    """
    if address is None:
        return LocalStore(settings)
    if kind := _remote_kind(address):
        store: VectorStore = kind(settings, str(address))
        return store
    return LocalStore(settings, Path(address))


def load_store(address: str | Path) -> VectorStore:
    """Open a store that holds an index.

    Args:
        address: a folder, or an address with a scheme.

    Raises:
        ImportError: if the store needs a package that is not installed.
        ValueError: if there is no index, or it is damaged.
    """
    kind = _remote_kind(address)
    store: VectorStore = LocalStore.load(Path(address)) if kind is None else kind.load(str(address))
    return store


def holds_index(address: str | Path) -> bool:
    """Return whether there is an index.

    Args:
        address: a folder, or an address with a scheme.
    """
    kind = _remote_kind(address)
    if kind is None:
        return (Path(address) / HEADER).exists()
    return bool(kind.exists(str(address)))


def is_store_address(text: str) -> bool:
    """Return whether a text is the address of a store, not a folder.

    Args:
        text: any text.
    """
    return _remote_kind(text) is not None


def _remote_kind(address: str | Path) -> Any:
    if isinstance(address, str) and address.startswith(lance.SCHEME):
        return lance.LanceStore
    if isinstance(address, str) and address.startswith(postgres.SCHEMES):
        return postgres.PostgresStore
    return None
