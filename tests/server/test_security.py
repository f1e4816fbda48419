"""What a hostile page may not do, and what pages may load."""

import hashlib
import re
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

import scaledreamer.server
from scaledreamer.server.problems import ProblemError
from scaledreamer.server.security import Guard
from scaledreamer.server.settings import Settings
from tests.server.test_requests import check_problem

WEB = Path(scaledreamer.server.__file__).parent / "web"


async def nothing(*_: object) -> None: ...


def allowed(method: str = "GET", settings: Settings | None = None, **headers: str) -> bool:
    try:
        Guard(nothing, settings or Settings()).check(method, Headers(headers))
    except ProblemError:
        return False
    return True


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST:8000"])
def test_local_names_are_served(host: str) -> None:
    assert allowed(host=host)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.168.1.5:8000", "", "[::2]:8000"])
def test_other_names_are_not(host: str) -> None:
    assert not allowed(host=host)


def test_hosts_can_be_added() -> None:
    assert allowed(settings=Settings(allowed_hosts=("studio.lan",)), host="studio.lan:8000")
    assert allowed(settings=Settings(allowed_hosts=("*",)), host="anything")
    assert allowed(settings=Settings(host="192.168.1.5"), host="192.168.1.5:8000")
    # Bound to every address: an address cannot be a rebound name, a name can.
    assert allowed(settings=Settings(host="0.0.0.0"), host="192.168.1.5:8000")
    assert not allowed(settings=Settings(host="0.0.0.0"), host="evil.example")


def test_hosts_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEDREAMER_ALLOWED_HOSTS", '["studio.lan"]')
    monkeypatch.setenv("SCALEDREAMER_PORT", "9000")
    assert (Settings().allowed_hosts, Settings().port) == (("studio.lan",), 9000)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "http://localhost"])
def test_pages_of_other_sites_may_not_post(origin: str) -> None:
    assert not allowed("POST", host="localhost:8000", origin=origin)
    assert allowed("GET", host="localhost:8000", origin=origin)


def test_own_pages_and_programs_may_post() -> None:
    assert allowed("POST", host="localhost:8000", origin="http://localhost:8000")
    assert allowed("POST", host="localhost:8000")
    trusted = Settings(allowed_origins=("https://studio.example",))
    assert allowed("POST", trusted, host="localhost:8000", origin="https://studio.example")


def test_refusals_are_problems(client: httpx.Client) -> None:
    answer = client.get("/health/live", headers={"host": "evil.example"})
    assert "SCALEDREAMER_ALLOWED_HOSTS" in check_problem(answer, 403, "host-not-allowed")["detail"]
    answer = client.post("/generate", json={"prompt": "x"}, headers={"origin": "http://evil.example"})
    check_problem(answer, 403, "origin-not-allowed")
    assert "access-control-allow-origin" not in client.get("/v1/models", headers={"origin": "http://a.example"}).headers


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_outside(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy and "'unsafe-eval'" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r'(?:src|href)="(?!/)', answer.text), "every address is on this server"
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|<style", answer.text), "nothing inline"
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', answer.text):
        assert client.get(asset).status_code == 200, asset


def test_the_vendored_viewer_is_the_one_that_is_named() -> None:
    digest = hashlib.sha256((WEB / "vendor" / "model-viewer.min.js").read_bytes()).hexdigest()
    assert digest in (WEB / "vendor" / "README.md").read_text()
