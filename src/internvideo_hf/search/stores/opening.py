"""Which store an address means."""

from typing import Any

from internvideo_hf.search.stores import lance, postgres
from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.local import HEADER, LocalStore
from internvideo_hf.utils.storage import AnyPath, as_path


def new_store(settings: dict[str, Any], address: str | AnyPath | None) -> VectorStore:
    """Return an empty store.

    Args:
        settings: of the index, see `base.SETTINGS`.
        address: a folder, also of an object store, or an address with a scheme of its own; None keeps the rows in
            memory.

    Raises:
        ImportError: if the store needs a package that is not installed.
        ValueError: if there is something already.
    """
    if address is None:
        return LocalStore(settings)
    if kind := _remote_kind(address):
        store: VectorStore = kind(settings, str(address))
        return store
    return LocalStore(settings, as_path(address))


def load_store(address: str | AnyPath) -> VectorStore:
    """Open a store that holds an index.

    Args:
        address: a folder, also of an object store, or an address with a scheme of its own.

    Raises:
        ImportError: if the store needs a package that is not installed.
        ValueError: if there is no index, or it is damaged.
    """
    kind = _remote_kind(address)
    store: VectorStore = LocalStore.load(as_path(address)) if kind is None else kind.load(str(address))
    return store


def holds_index(address: str | AnyPath) -> bool:
    """Return whether there is an index.

    Args:
        address: a folder, also of an object store, or an address with a scheme of its own.
    """
    kind = _remote_kind(address)
    if kind is None:
        return (as_path(address) / HEADER).exists()
    return bool(kind.exists(str(address)))


def is_store_address(text: str) -> bool:
    """Return whether a text is the address of a store, not a folder.

    Args:
        text: any text.
    """
    return _remote_kind(text) is not None


def _remote_kind(address: str | AnyPath) -> Any:
    if isinstance(address, str) and address.startswith(lance.SCHEME):
        return lance.LanceStore
    if isinstance(address, str) and address.startswith(postgres.SCHEMES):
        return postgres.PostgresStore
    return None
