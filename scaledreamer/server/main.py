"""`scaledreamer serve`: the app under uvicorn, with one clear line for what goes wrong at the start."""

import errno
import socket
import sqlite3
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO

import uvicorn

from scaledreamer.errors import ConfigError, ScaleDreamerError
from scaledreamer.server.app import create_app
from scaledreamer.server.auth import is_loopback
from scaledreamer.server.database import FILE, connect, transaction
from scaledreamer.server.keys import list_keys
from scaledreamer.server.logs import configure
from scaledreamer.server.settings import Settings


def serve(settings: Settings | None = None) -> int:
    """Serve until Ctrl-C; the exit code is 1 when the address, the data folder or the model cannot be used."""
    settings = settings or Settings()
    configure(settings.log_level, settings.log_lines)
    failures: list[str] = []

    def give_up(reason: str) -> None:
        failures.append(reason)
        server.should_exit = True

    with ExitStack() as held:
        try:
            check_writable(settings.data)
            held.enter_context(claim_folder(settings.data))
            check_store(settings.data / FILE)
            check_keys(settings)
            listener = held.enter_context(bind(settings.host, settings.port))
            app = create_app(settings, on_failure=give_up)
        except (ScaleDreamerError, OSError) as error:
            print(f"scaledreamer: {error}", file=sys.stderr)
            return 1
        config = uvicorn.Config(
            app, log_level="warning", server_header=False, timeout_keep_alive=30, timeout_graceful_shutdown=3
        )
        server = uvicorn.Server(config)
        host, port = listener.getsockname()[:2]
        address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        print(f"ScaleDreamer serves {address} (API: {address}docs); Ctrl-C stops it", flush=True)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    if failures:
        print(f"scaledreamer: {failures[0]}", file=sys.stderr)
        return 1
    return 0


def check_writable(folder: Path) -> None:
    """Fail now rather than at the first job."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}; set SCALEDREAMER_DATA to another folder") from error


def claim_folder(folder: Path) -> IO[bytes]:
    """An open file that says whose folder it is, until it is closed or its process ends in any way. Raises OSError."""
    claim = (folder / ".claim").open("ab")
    with suppress(ImportError):  # Windows has no such locks
        import fcntl

        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            claim.close()
            raise OSError(
                f"another server uses {folder}, and two would do the same jobs; stop it, or set SCALEDREAMER_DATA to "
                "another folder"
            ) from error
    return claim


def check_store(path: Path) -> None:
    """Raise an OSError where jobs cannot be noted: a file that is no database, is read-only, or is locked."""
    try:
        with closing(connect(path)) as connection, transaction(connection):
            pass
    except sqlite3.Error as error:
        detail = "; end the program that holds it, make it writable, or set SCALEDREAMER_DATA to another folder"
        raise OSError(f"cannot use the job store {path}: {error}{detail}") from error


def check_keys(settings: Settings) -> None:
    """What other machines reach needs a key; raises ConfigError where there is none."""
    if is_loopback(settings.host):
        return
    with closing(connect(settings.data / FILE)) as connection:
        if any(key.revoked is None for key in list_keys(connection)):
            return
    raise ConfigError(
        f"other machines reach {settings.host}, and there is no key that they would need; make one with: "
        f"scaledreamer keys create NAME --data {settings.data}"
    )


def bind(host: str, port: int) -> socket.socket:
    """The listening socket, taken before anything is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise OSError(f"unknown host {host!r}: {error.strerror}; use 127.0.0.1 or 0.0.0.0") from error
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there the option would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        remedies = {
            errno.EADDRINUSE: f"port {port} on {host} is taken; stop the other program or choose another --port",
            errno.EACCES: f"port {port} needs more rights; choose one from 1024 up",
            errno.EADDRNOTAVAIL: f"{host} is not an address of this machine; use 127.0.0.1 or 0.0.0.0",
        }
        raise OSError(remedies.get(error.errno or 0, f"cannot listen on {host}:{port}: {error.strerror}")) from error
    return listener


if __name__ == "__main__":
    sys.exit(serve())
