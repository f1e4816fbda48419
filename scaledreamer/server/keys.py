"""API keys: random secrets that are shown once; the database holds their SHA-256 and nothing else of them."""

import hashlib
import re
import secrets
import sqlite3
from dataclasses import dataclass
from typing import Literal

from scaledreamer.errors import ConfigError
from scaledreamer.server.database import transaction

Scope = Literal["read", "generate"]  # look at one's jobs and take their files; also start, cancel and delete them
PREFIX = "sdk_"  # by which scanners know a key that has leaked
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Key:
    """What is known of a key. Keys of one name share their jobs: that is how one takes the place of another."""

    id: str
    name: str
    digest: str
    scope: Scope
    created: float
    revoked: float | None = None


def digest_of(secret: str) -> str:
    """What a secret is found by. It has 256 random bits, so a plain hash is enough, and looking it up tells no time."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def create_key(connection: sqlite3.Connection, name: str, scope: Scope, now: float) -> tuple[Key, str]:
    """A new key and its secret, which nobody can read again. Raises ConfigError for a name that cannot be."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"a key cannot be named {name!r:.80}; take up to 64 letters, digits and any of . _ @ -")
    secret = PREFIX + secrets.token_urlsafe(32)
    key = Key(secrets.token_hex(6), name, digest_of(secret), scope, now)
    with transaction(connection):
        row = (key.id, key.name, key.digest, key.scope, key.created, None)
        connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", row)
    return key, secret


def list_keys(connection: sqlite3.Connection) -> list[Key]:
    """All that ever were, the oldest first."""
    rows = connection.execute("SELECT * FROM keys ORDER BY created, id")
    return [Key(row["id"], row["name"], row["digest"], row["scopes"], row["created"], row["revoked"]) for row in rows]


def revoke_key(connection: sqlite3.Connection, key: str, now: float) -> None:
    """It opens nothing any more. Raises ConfigError for an id that is none."""
    with transaction(connection):
        changed = connection.execute("UPDATE keys SET revoked = coalesce(revoked, ?) WHERE id = ?", (now, key))
    if not changed.rowcount:
        raise ConfigError(f"no key has the id {key!r:.80}; `scaledreamer keys list` shows the ids")
