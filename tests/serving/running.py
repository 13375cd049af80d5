"""The service on a real port, in a thread of this process."""

import contextlib
import threading
import time
from collections.abc import Iterator

import uvicorn

from internvideo_hf.serving.server import listen


@contextlib.contextmanager
def running(app, **options) -> Iterator[str]:
    """Serve an application with options of uvicorn, and give its address."""
    taken = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", **options))
    thread = threading.Thread(target=server.run, args=([taken],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "it could not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        taken.close()
        assert not thread.is_alive()
