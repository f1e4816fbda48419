"""The SQLite file: opened in WAL mode, brought up to date by numbered migrations, changed in transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaledreamer.errors import ConfigError

FILE = "scaledreamer.db"  # in the data folder
BUSY_SECONDS = 1.0  # how long a statement waits for a lock that another process holds; all others wait behind it

# One string a version; a released one is never edited. `PRAGMA user_version` counts those that have run.
MIGRATIONS = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        parent TEXT,
        prompt TEXT NOT NULL,
        model TEXT NOT NULL,
        request TEXT NOT NULL,
        resolved TEXT NOT NULL,
        field_key TEXT NOT NULL,
        asset_key TEXT NOT NULL,
        cost REAL NOT NULL,
        status TEXT NOT NULL,
        stage TEXT NOT NULL,
        progress REAL NOT NULL DEFAULT 0,
        created REAL NOT NULL,
        started REAL NOT NULL DEFAULT 0,
        finished REAL NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0,
        outcome TEXT,
        failure TEXT
    ) STRICT;
    CREATE INDEX jobs_by_owner ON jobs (owner, id);
    CREATE INDEX jobs_by_status ON jobs (status, finished);
    CREATE INDEX jobs_by_asset ON jobs (asset_key);
    CREATE INDEX jobs_by_field ON jobs (field_key);
    CREATE TABLE events (
        job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        time REAL NOT NULL,
        kind TEXT NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (job, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE artifacts (
        asset_key TEXT PRIMARY KEY,
        outcome TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        used REAL NOT NULL
    ) STRICT;
    CREATE TABLE idempotency (
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        digest TEXT NOT NULL,
        job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        created REAL NOT NULL,
        PRIMARY KEY (owner, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        created REAL NOT NULL,
        revoked REAL
    ) STRICT;
    """,
)


def connect(path: Path) -> sqlite3.Connection:
    """An open database of this version. One thread at a time may use it.

    Every commit is on the disk when it returns (synchronous=FULL). Raises ConfigError for a file that a newer version
    wrote, and sqlite3.Error for one that is no database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # a deleted prompt is overwritten
        migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run what has not run yet, each version whole or not at all."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"{path} is of version {version}, and this program knows versions up to {len(MIGRATIONS)}; "
            "update scaledreamer, or set SCALEDREAMER_DATA to another folder"
        )
    for number in range(version, len(MIGRATIONS)):
        with transaction(connection):
            if int(connection.execute("PRAGMA user_version").fetchone()[0]) > number:
                continue  # another process was quicker
            for statement in MIGRATIONS[number].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise
