"""Passwords of addresses stay out of texts."""

import pytest

from internvideo_hf.utils.passwords import without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:s3cret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("to postgres://me:s3@c/r:et@host/db failed", "to postgres://me:***@host/db failed"),
        ("postgresql://:s3cret@host", "postgresql://:***@host"),
        ("postgresql://host/db?user=me&password=s3cret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("host=h sslpassword=s3cret user=me", "host=h sslpassword=*** user=me"),
        ("https://host:80/a.mp4 and /b", "https://host:80/a.mp4 and /b"),
        ("postgresql://me@host/db#my_index", "postgresql://me@host/db#my_index"),
    ],
)
def test_passwords_are_hidden_and_the_rest_stays(text, shown):
    assert without_passwords(text) == shown
