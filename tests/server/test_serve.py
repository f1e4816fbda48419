"""`serve` as a program: the headline command, a clear line when it cannot start, nothing left when it is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command(handler: str, data: Path, port: int) -> list[str]:
    """`serve` with fake handlers in the place of its own."""
    program = f"""
import sys
from functools import partial
from pathlib import Path
from scaledreamer.server import main
from scaledreamer.server.app import create_app
from scaledreamer.server.settings import Settings
from tests.server.fakes import MODEL, FakeFinishing, FakeGenerating, MissingModel
if __name__ == "__main__":
    main.create_app = partial(create_app, model=MODEL, generating={handler}, finishing=FakeFinishing)
    sys.exit(main.serve(Settings(data=Path({str(data)!r}), port={port}, mesh_processes=1)))
"""
    return [sys.executable, "-c", program]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


@contextmanager
def program(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address; the port is the one it prints."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command("FakeGenerating", data, 0), env=environment(), **pipes) as process:  # type: ignore[call-overload]
        try:
            line = process.stdout.readline()
            yield process, line.split()[2].rstrip("/")
        finally:
            process.kill()


def test_curl_as_written_then_ctrl_c(tmp_path: Path) -> None:
    with program(tmp_path) as (process, address):
        # urllib, like curl -d, declares a form.
        with urllib.request.urlopen(f"{address}/generate", data=b'{"prompt": "a red wooden barrel"}') as answer:
            job = json.load(answer)
        assert job["status"] == "succeeded"
        with urllib.request.urlopen(job["files"][0]["url"]) as answer:
            assert answer.read(4) == b"glTF"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.communicate()[1] == ""


def test_no_worker_outlives_a_killed_server(tmp_path: Path) -> None:
    with program(tmp_path) as (process, address):
        request = urllib.request.Request(f"{address}/generate", b'{"prompt": "ball", "resolution": 32}')
        with urllib.request.urlopen(request):
            pass
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            pytest.skip("no /proc here")
        workers = [int(each) for each in Path(children).read_text().split()]
        workers = [each for each in workers if "spawn_main" in Path(f"/proc/{each}/cmdline").read_text()]
        assert len(workers) == 2
        process.kill()
        process.wait()
        end = time.monotonic() + 10
        while any(Path(f"/proc/{each}").exists() for each in workers):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("FakeGenerating", tmp_path, port), env=environment(), capture_output=True, text=True
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"scaledreamer: port {port} on 127.0.0.1 is taken; stop the other program or choose another --port"
    ]


def test_a_data_folder_that_cannot_be_written_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arguments = command("FakeGenerating", tmp_path / "file" / "data", 0)
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "SCALEDREAMER_DATA" in done.stderr


def test_a_second_server_on_a_data_folder_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    with program(tmp_path) as (first, _):
        done = subprocess.run(command("FakeGenerating", tmp_path, 0), env=environment(), capture_output=True, text=True)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"scaledreamer: another server uses {tmp_path}") and "SCALEDREAMER_DATA" in line
        first.kill()
        first.wait()
        with program(tmp_path) as (_, address), urllib.request.urlopen(f"{address}/health/live") as answer:
            assert answer.status == 200


def test_a_setting_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    code = "from scaledreamer.cli import main; main()"
    arguments = [sys.executable, "-c", code, "serve", "--accelerator", "gpu"]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "accelerator is 'gpu'" in line and "'tensorrt'" in line


def test_a_model_that_is_missing_is_exit_code_1(tmp_path: Path) -> None:
    done = subprocess.run(command("MissingModel", tmp_path, 0), env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("scaledreamer: no model at 'barrel.safetensors'")
    assert "Traceback" not in done.stderr
