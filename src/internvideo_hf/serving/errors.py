"""The error of a request that is refused."""

from typing import Any

_HEADERS = {429: {"retry-after": "1"}, 503: {"retry-after": "5"}, 401: {"www-authenticate": "Bearer"}}


class RequestError(Exception):
    """A request is refused.

    Args:
        message: what was got, what was expected, what to do.
        status: of HTTP.
        code: a word for programs.
        param: the field of the request that is meant.
    """

    def __init__(self, message: str, status: int = 400, code: str = "invalid_request", param: str | None = None):
        super().__init__(message)
        self.message, self.status, self.code, self.param = message, status, code, param

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response beside those of every one."""
        return _HEADERS.get(self.status, {})

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the response, in the shape of OpenAI's errors."""
        return error_body(self.message, self.status, self.code, self.param)


def error_body(message: str, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """Return the body of a response that is an error, in the shape of OpenAI's.

    Args:
        message: as of `RequestError`.
        status: the same.
        code: the same.
        param: the same.
    """
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
