"""Rows of databases as Parquet files: of SQLite always, of a real PostgreSQL where there is one."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from dvtool.format.manifest import decode
from dvtool.format.source import DataSource
from dvtool.remotes.origins.sql import has_order, sql_source
from tests.cli.conftest import Work
from tests.postgres import PASSWORD, Postgres, running_postgres

ROWS = 40_000
MANY_ROWS = 1_000_000 if os.environ.get("DV_TEST_ALL", "0") not in ("", "0") else 120_000
MEMORY_MAX_BYTES = 150 << 20
MEASURED = """
import re, sys
from dvtool import cli
code = cli.run_command(sys.argv[1:])
with open("/proc/self/status") as status:  # ru_maxrss counts what the parent had before exec, too
    print(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1], file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        server.sql(
            "CREATE TABLE points (id int PRIMARY KEY, name text, x float8, at timestamptz);"
            f"INSERT INTO points SELECT i, 'point ' || md5(i::text), i / 3.0, "
            f"'2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, {ROWS}) i;"
        )
        yield server


def make_database(path: Path, rows: int = ROWS) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE points (id INTEGER PRIMARY KEY, name TEXT, x REAL)")
    database.executemany(
        "INSERT INTO points VALUES (?, ?, ?)",
        ((i, hashlib.md5(b"%d" % i).hexdigest(), i / 3) for i in range(rows)),
    )
    database.commit()
    return database


@pytest.fixture
def lab(work: Work) -> Iterator[sqlite3.Connection]:
    database = make_database(work.root / "lab.db")
    (work.root / ".gitignore").write_text("lab.db\n")
    work.commit("lab")
    yield database
    database.close()


def source_of(work: Work, target: str) -> DataSource:
    source = decode(work.read(f"{target}.dv.json"), target).source
    assert source is not None
    return source


def nothing_recorded(work: Work) -> None:
    assert work.git("status", "--porcelain") == ""
    assert not (work.root / ".git/dv/trusted-sources.json").exists()


def test_a_table_becomes_a_file_and_follows(work: Work, lab: sqlite3.Connection) -> None:
    done = work.dv("import-sql", "sqlite:///lab.db", "points", "data/p.parquet", "--json").json
    assert done["warnings"] == []
    table = pq.read_table(work.root / "data/p.parquet")
    assert table.num_rows == ROWS
    assert table.column("id").to_pylist() == list(range(ROWS))
    source = source_of(work, "data/p.parquet")
    assert source.query == 'SELECT * FROM points ORDER BY "id"'
    assert (source.rows, source.schema) == (ROWS, ("id int64", "name string", "x double"))
    assert source.url == "sqlite:///lab.db"
    work.commit("imported")
    # The same rows give the same bytes, whatever the file of the database went through.
    lab.execute("INSERT INTO points VALUES (-1, 'x', 0)")
    lab.execute("DELETE FROM points WHERE id = -1")
    lab.commit()
    lab.execute("VACUUM")
    assert "unchanged" in work.dv("update").out
    assert work.git("status", "--porcelain") == ""
    assert work.dv("status", "--sources", "--json").json["sources"][0]["standing"] == "current"

    lab.execute("DELETE FROM points WHERE id = 1234")
    lab.commit()
    assert work.dv("status", "--sources", "--json").json["sources"][0]["standing"] == "behind"
    done = work.dv("update", "--json").json["targets"][0]
    assert (done["changed"], done["modified"], done["written"]) == (True, 1, 1)
    assert pq.read_table(work.root / "data/p.parquet").num_rows == ROWS - 1
    assert source_of(work, "data/p.parquet").rows == ROWS - 1


def test_a_plan_counts_and_keeps_nothing(work: Work, lab: sqlite3.Connection) -> None:
    plan = work.dv("import-sql", "--plan", "sqlite:///lab.db", "points", "p.parquet", "--json").json
    plan.pop("schema")
    assert plan == {
        "target": "p.parquet",
        "source": "sqlite:///lab.db",
        "query": 'SELECT * FROM points ORDER BY "id"',
        "columns": ["id int64", "name string", "x double"],
        "rows": ROWS,
        "warnings": [],
    }
    for query, says in (
        ("SELECT id FROM points WHERE id < 7 -- seven", "an import of 7 rows"),
        ("PRAGMA table_info(points)", "rows that are not counted"),
    ):
        ran = work.dv("import-sql", "--plan", "sqlite:///lab.db", query, "p.parquet")
        assert says in ran.out
        assert "no ORDER BY" in ran.err
    query = "SELECT nothing FROM points"
    ran = work.dv("import-sql", "--plan", "sqlite:///lab.db", query, "p.parquet", code=7)
    assert "refuses the query" in ran.err
    nothing_recorded(work)
    assert not list((work.root / ".git/dv").rglob("*.pack"))


def test_a_deleted_row_adds_little(work: Work) -> None:
    with make_database(work.root / "lab.db", 400_000) as lab:
        work.dv("import-sql", "sqlite:///lab.db", "points", "p.parquet")
        lab.execute("DELETE FROM points WHERE id = 160000")
        lab.commit()
        done = work.dv("update", "--json").json["targets"][0]
    lab.close()
    assert 0 < done["stored_bytes"] < 0.1 * done["bytes"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most memory of a process")
def test_memory_does_not_grow_with_the_rows(work: Work) -> None:
    make_database(work.root / "lab.db", MANY_ROWS).close()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "import-sql", "sqlite:///lab.db", "points", "p.parquet"],
        cwd=work.root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) << 10 < MEMORY_MAX_BYTES


def test_what_is_wrong_with_a_query_is_said_and_nothing_recorded(
    work: Work, lab: sqlite3.Connection
) -> None:
    lab.execute("INSERT INTO points VALUES (?, ?, ?)", (ROWS + 1, "late", "not a number"))
    lab.commit()
    for query, says in {
        "nonsense": "no such table",
        "SELECT missing FROM points": "no such column",
        "DELETE FROM points": "readonly database",
        "points": "Type mismatch in column 2",
        f"/* */ ATTACH DATABASE '{work.root}/new.db' AS x": "attaches another database",
    }.items():
        ran = work.dv("import-sql", "sqlite:///lab.db", query, "p.parquet", code=7)
        assert says in ran.err
        assert "nothing was recorded" in ran.err
        if query == "points":
            assert "CAST(column AS TEXT)" in ran.err
    nothing_recorded(work)
    assert not (work.root / "new.db").exists()
    assert lab.execute("SELECT count(*) FROM points").fetchone() == (ROWS + 1,)
    ran = work.dv("import-sql", "sqlite:///lab.db", "SELECT id FROM points", "p.parquet")
    assert "no ORDER BY" in ran.err


@pytest.mark.parametrize(
    ("url", "query", "out", "code", "says"),
    [
        ("sqlite:///none.db", "t", "p.parquet", 7, "there is no database"),
        ("sqlite://x", "t", "p.parquet", 2, "names no file"),
        ("mysql://h/d", "t", "p.parquet", 2, "is no database"),
        ("postgresql://u:pw@h/d", "t", "p.parquet", 2, "password does not belong"),
        ("postgresql://h/d?password=x", "t", "p.parquet", 2, "sets password"),
        ("sqlite:///lab.db", " ; ", "p.parquet", 2, "no query"),
        ("sqlite:///lab.db", "points", "p.csv", 2, "does not end in .parquet"),
    ],
)
def test_bad_requests(work: Work, url: str, query: str, out: str, code: int, says: str) -> None:
    work.commit("init")
    assert says in work.dv("import-sql", url, query, out, code=code).err
    nothing_recorded(work)


def test_a_file_of_duckdb_is_read_and_nothing_else(work: Work) -> None:
    database = duckdb.connect(str(work.root / "lab.duckdb"))
    database.execute("CREATE TABLE points (id INTEGER PRIMARY KEY, x DOUBLE, tags VARCHAR[])")
    database.execute("INSERT INTO points SELECT i, i / 3, ['a', 'b'] FROM range(5000) r(i)")
    database.close()
    (work.root / ".gitignore").write_text("lab.duckdb\n")
    work.commit("lab")
    url, secret = "duckdb:///lab.duckdb", work.root.parent / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    for query, says in {
        "DELETE FROM points": "read-only",
        "CREATE TABLE other (n INTEGER)": "read-only",
        f"COPY points TO '{secret}2'": "disabled by configuration",
        f"SELECT * FROM read_csv('{secret}')": "disabled by configuration",
        f"ATTACH '{secret}3' AS other": "attaches another database",
        "SET enable_external_access = true": "locked",
        "SELECT error('in the middle') FROM points WHERE id > 4000": "in the middle",
        "points_of_others": "points_of_others",
    }.items():
        ran = work.dv("import-sql", url, query, "p.parquet", code=7)
        assert says in ran.err
        assert "nothing was recorded" in ran.err
    nothing_recorded(work)
    assert [path.name for path in work.root.parent.glob("secret*")] == ["secret.csv"]
    plan = work.dv("import-sql", "--plan", url, "points", "p.parquet", "--json").json
    assert (plan["rows"], plan["query"]) == (5_000, 'SELECT * FROM points ORDER BY "id"')
    work.dv("import-sql", url, "points", "p.parquet")
    assert pq.read_table(work.root / "p.parquet").num_rows == 5_000
    work.commit("imported")
    assert "unchanged" in work.dv("update").out
    with duckdb.connect(str(work.root / "lab.duckdb")) as database:
        database.execute("DELETE FROM points WHERE id = 17")
    assert "1 modified" in work.dv("update").out
    ran = work.dv("import-sql", "duckdb:///none.duckdb", "points", "q.parquet", code=7)
    assert "there is no database" in ran.err


def test_a_clone_runs_no_query_before_it_is_told_to(work: Work, lab: sqlite3.Connection) -> None:
    work.dv("import-sql", "sqlite:///lab.db", "SELECT id FROM points ORDER BY id", "p.parquet")
    work.commit("imported")
    clone = work.clone(remote=False)
    ran = clone.dv("update", code=3)
    assert "query SELECT id FROM points ORDER BY id" in ran.err
    (clone.root / "lab.db").write_bytes(work.read("lab.db"))
    assert "unchanged" in clone.dv("update", "--trust", "p.parquet").out
    text = clone.read("p.parquet.dv.json").replace(b"SELECT id", b"SELECT name")
    clone.write("p.parquet.dv.json", text)
    assert "nobody approved" in clone.dv("update", code=3).err


def test_the_address_has_no_user_and_files_are_from_the_top(tmp_path: Path) -> None:
    top = str(tmp_path)
    source, local = sql_source("postgresql://me@h:5/d?sslmode=require", " q; ", top, top)
    assert source.url == "postgresql://h:5/d?sslmode=require"
    assert (source.query, local) == ("q", {"user": "me"})
    inner = str(tmp_path / "a b")
    assert sql_source("sqlite:///x.db", "t", top, inner)[0].url == "sqlite:///a%20b/x.db"
    assert sql_source("sqlite:///../../x.db", "t", top, inner)[0].url.startswith("sqlite:////")


def test_where_a_query_orders() -> None:
    assert has_order("SELECT 1 ORDER  by 1")
    assert not has_order("SELECT * FROM (SELECT 1 ORDER BY 1) t")
    assert not has_order("SELECT 'order by' -- order by\n")


def test_postgres(work: Work, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    work.commit("init")
    ran = work.dv("import-sql", postgres.url, "points", "p.parquet", code=7)
    assert "PGPASSWORD" in ran.err
    nothing_recorded(work)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    plan = work.dv("import-sql", "--plan", postgres.url, "points", "p.parquet", "--json").json
    assert (plan["rows"], plan["columns"][:2]) == (ROWS, ["id int32", "name string"])
    query = "WITH gone AS (DELETE FROM points RETURNING id) SELECT id FROM gone"
    work.dv("import-sql", "--plan", postgres.url, query, "p.parquet", code=7)
    nothing_recorded(work)
    # One snapshot for all that is read, and nothing can be written.
    query = "SELECT current_setting('transaction_isolation') AS isolation, "
    query += "current_setting('transaction_read_only') AS read_only ORDER BY 1"
    work.dv("import-sql", postgres.url, query, "settings.parquet")
    (settings,) = pq.read_table(work.root / "settings.parquet").to_pylist()
    assert settings == {"isolation": "repeatable read", "read_only": "on"}
    work.dv("rm", "--data", "--force", "settings.parquet")
    monkeypatch.setenv("DV_LOG", str(work.root.parent / "log"))
    work.dv("import-sql", postgres.url, "points", "p.parquet")
    monkeypatch.delenv("DV_LOG")
    table = pq.read_table(work.root / "p.parquet")
    assert table.num_rows == ROWS
    source = source_of(work, "p.parquet")
    assert source.query == 'SELECT * FROM points ORDER BY "id"'
    assert source.url == f"postgresql://127.0.0.1:{postgres.port}/postgres"
    assert source.schema[0] == "id int32"
    work.commit("imported")
    assert "unchanged" in work.dv("update").out
    postgres.sql("DELETE FROM points WHERE id = 100")
    assert "1 modified" in work.dv("update").out
    for query, says in {
        "DELETE FROM points": "refuses the query",
        "WITH gone AS (DELETE FROM points RETURNING id) SELECT id FROM gone": "read-only",
        "SELECT 1 / (id - 30000) FROM points ORDER BY id": "division by zero",
        "SELECT id, CASE WHEN id = 30000 THEN pg_terminate_backend(pg_backend_pid()) END "
        "FROM points ORDER BY id": "terminating connection",
    }.items():
        assert says in work.dv("import-sql", postgres.url, query, "q.parquet", code=7).err
        assert not (work.root / "q.parquet.dv.json").exists()
    assert postgres.sql("SELECT count(*) FROM points") == str(ROWS - 1)
    everything = [
        path.read_bytes()
        for path in (*work.root.rglob("*"), work.root.parent / "log")
        if path.is_file()
    ]
    assert not any(PASSWORD.encode() in data for data in everything)


def test_passwords_of_files(
    work: Work, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    services, passwords = tmp_path / "services", tmp_path / "passwords"
    place = f"host=127.0.0.1\nport={postgres.port}\ndbname=postgres\nuser=lab\n"
    services.write_text(f"[lab]\n{place}password={PASSWORD}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    query = "SELECT 1 AS one ORDER BY 1"
    work.dv("import-sql", "postgresql://?service=lab", query, "a.parquet")
    assert source_of(work, "a.parquet").url == "postgresql://?service=lab"
    services.unlink()
    assert "lab" in work.dv("update", code=7).err
    work.dv("import-sql", postgres.url, query, "b.parquet", code=7)
    passwords.write_text(f"127.0.0.1:*:*:lab:{PASSWORD}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    work.dv("import-sql", postgres.url, query, "b.parquet")
    for target in ("a.parquet", "b.parquet"):
        assert PASSWORD not in work.read(f"{target}.dv.json").decode()
    assert PASSWORD not in work.read(".git/dv/trusted-sources.json").decode()


def test_a_server_that_is_not_there(work: Work) -> None:
    work.commit("init")
    ran = work.dv("import-sql", "postgresql://127.0.0.1:1/x", "points", "p.parquet", code=7)
    assert "cannot be opened" in ran.err
    nothing_recorded(work)
    assert os.listdir(work.root / ".git/dv/tmp") == []
