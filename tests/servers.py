"""Local servers of HTTP, which print no lines about requests."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class _Files(Quiet, http.server.SimpleHTTPRequestHandler):
    """Files of a folder."""


@contextlib.contextmanager
def serve(handler: Callable[..., http.server.BaseHTTPRequestHandler], **attributes: Any) -> Iterator[str]:
    """Serve on a free port, and give the address.

    Args:
        handler: of requests.
        attributes: of the server, which the handler finds in `self.server`.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        vars(server).update(attributes)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def serve_folder(folder: str | Path) -> contextlib.AbstractContextManager[str]:
    """Serve the files of a folder, and give the address."""
    return serve(partial(_Files, directory=str(folder)))
