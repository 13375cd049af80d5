"""Refusals in the shape of OpenAI's errors."""

from internvideo_hf.serving.errors import RequestError, error_body


def test_a_refusal_says_what_and_where():
    error = RequestError("There is no video.", 422, "unreadable_video", "input[1]")
    assert str(error) == "There is no video." and error.status == 422
    assert error.to_dict() == {
        "error": {
            "message": "There is no video.",
            "type": "invalid_request_error",
            "param": "input[1]",
            "code": "unreadable_video",
        }
    }
    assert error_body("It failed.", 500, "server_error")["error"]["type"] == "server_error"
