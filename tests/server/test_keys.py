"""Keys: secrets that nobody can read again, scopes, and jobs that only their owner sees."""

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers
from typer.testing import CliRunner

from scaledreamer.cli import app
from scaledreamer.errors import ConfigError
from scaledreamer.server.auth import Auth, KeyRing, is_loopback, is_open, secret_of
from scaledreamer.server.database import FILE, connect
from scaledreamer.server.keys import Scope, create_key, digest_of, list_keys, revoke_key
from scaledreamer.server.ledger import Ledger
from scaledreamer.server.logs import configure
from scaledreamer.server.main import serve
from scaledreamer.server.problems import ProblemError
from scaledreamer.server.settings import Settings
from tests.server.running import finished, running
from tests.server.test_requests import check_problem

SMALL = {"resolution": 32, "formats": ["glb"]}


def new_key(data: Path, name: str, scope: Scope = "generate") -> dict[str, str]:
    """The header of a new key."""
    with closing(connect(data / FILE)) as connection:
        _, secret = create_key(connection, name, scope, time.time())
    return {"authorization": f"Bearer {secret}"}


def keys_command(data: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["keys", *arguments, "--data", str(data)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def until(client: httpx.Client, status: int, headers: dict[str, str]) -> float:
    """Seconds until the list of jobs answers so."""
    began = time.monotonic()
    while client.get("/v1/jobs", headers=headers).status_code != status:
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    return time.monotonic() - began


class TestTable:
    def test_a_secret_has_256_bits_and_is_not_in_the_file(self, tmp_path: Path) -> None:
        with closing(connect(tmp_path / FILE)) as connection:
            made = [create_key(connection, "ann", "generate", 1.0) for _ in range(3)]
            secrets = {secret for _, secret in made}
            assert len(secrets) == 3 and all(re.fullmatch(r"sdk_[A-Za-z0-9_-]{43}", secret) for secret in secrets)
            assert {key.digest for key in list_keys(connection)} == {digest_of(secret) for secret in secrets}
            written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"ann" in written and not any(secret.encode() in written for secret in secrets)

    def test_a_revoked_key_stays_revoked_since_the_first_time(self, tmp_path: Path) -> None:
        with closing(connect(tmp_path / FILE)) as connection:
            key, _ = create_key(connection, "ann", "read", 1.0)
            revoke_key(connection, key.id, 2.0)
            revoke_key(connection, key.id, 3.0)
            (found,) = list_keys(connection)
            assert (found.scope, found.created, found.revoked) == ("read", 1.0, 2.0)
            with pytest.raises(ConfigError, match="keys list"):
                revoke_key(connection, "nobody", 4.0)

    @pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 65, "ä", "-a"])
    def test_names_are_words(self, tmp_path: Path, name: str) -> None:
        with closing(connect(tmp_path / FILE)) as connection, pytest.raises(ConfigError, match="letters"):
            create_key(connection, name, "read", 1.0)


class TestCommand:
    def test_create_shows_the_secret_once_and_list_never(self, tmp_path: Path) -> None:
        secret = keys_command(tmp_path, "create", "ann").strip()
        other = json.loads(keys_command(tmp_path, "create", "bob", "--scope", "read", "--json"))
        assert secret.startswith("sdk_") and other["scope"] == "read" and other["key"].startswith("sdk_")
        keys_command(tmp_path, "revoke", other["id"])
        listed = keys_command(tmp_path, "list")
        assert [line.split()[1::2] for line in listed.splitlines()] == [["generate", "valid"], ["read", "revoked"]]
        told = json.loads(keys_command(tmp_path, "list", "--json"))
        assert [set(key) for key in told] == [{"id", "name", "scope", "created", "revoked"}] * 2
        assert not re.search(r"sdk_|[0-9a-f]{64}", listed + json.dumps(told))

    def test_a_key_of_the_same_name_is_told(self, tmp_path: Path) -> None:
        first = json.loads(keys_command(tmp_path, "create", "ann", "--json"))
        result = CliRunner().invoke(app, ["keys", "create", "ann", "--data", str(tmp_path)])
        assert first["id"] in result.stderr and "shares the jobs" in result.stderr


class TestBind:
    def test_what_other_machines_reach_needs_a_key(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("scaledreamer.server.main.configure", lambda *_: None)
        assert serve(Settings(host="0.0.0.0", port=0, data=tmp_path)) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "0.0.0.0" in line and f"scaledreamer keys create NAME --data {tmp_path}" in line
        new_key(tmp_path, "ann")
        assert serve(Settings(host="0.0.0.0", port=0, data=tmp_path, model=str(tmp_path / "none.safetensors"))) == 1
        assert "none.safetensors" in capsys.readouterr().err, "the next thing that is missing"

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost", "LOCALHOST"])
    def test_loopback(self, host: str) -> None:
        assert is_loopback(host)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.lan", "localhost.evil.example", ""])
    def test_not_loopback(self, host: str) -> None:
        assert not is_loopback(host)

    @pytest.mark.anyio
    async def test_without_a_key_other_machines_get_nothing(self) -> None:
        async def nothing(*_: object) -> None: ...

        keys = KeyRing(Ledger())
        assert await Auth(nothing, keys, "127.0.0.1").owner("GET", Headers()) == ""
        with pytest.raises(ProblemError, match="keys create"):
            await Auth(nothing, keys, "0.0.0.0").owner("GET", Headers())


class TestHeaders:
    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": "Bearer k"}, {"authorization": "bearer  k "}, {"x-api-key": "k"},
            {"x-api-key": "k", "authorization": "Basic eDp5"}, {"x-api-key": "other", "authorization": "Bearer k"},
        ],
    )  # fmt: skip
    def test_a_key_is_found(self, headers: dict[str, str]) -> None:
        assert secret_of(Headers(headers)) == "k"

    @pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer"}, {"authorization": "k"}, {"x-api-key": " "}])
    def test_nothing_else_is_one(self, headers: dict[str, str]) -> None:
        assert secret_of(Headers(headers)) is None

    @pytest.mark.parametrize("path", ["/webx", "/health", "/health/livex", "/v1/jobs", "/metrics", "/docs/x", "//"])
    def test_what_is_not_a_page_or_a_probe_is_closed(self, path: str) -> None:
        assert not is_open(path)


class TestServer:
    def test_keys_are_noticed_and_forgotten_while_it_runs(self, tmp_path: Path) -> None:
        with running(tmp_path) as client:
            assert client.post("/generate", json={"prompt": "ball", **SMALL}).status_code == 200
            made = json.loads(keys_command(tmp_path, "create", "ann", "--json"))
            assert until(client, 401, {}) < 2
            ann = {"x-api-key": made["key"]}
            assert client.get("/v1/jobs", headers=ann).json()["jobs"] == [], "what nobody owned is nobody's"
            bob = new_key(tmp_path, "bob")
            assert until(client, 200, bob) < 2
            keys_command(tmp_path, "revoke", made["id"])
            assert until(client, 401, ann) < 2
            assert client.get("/v1/jobs", headers=bob).status_code == 200

    def test_a_second_key_of_a_name_takes_the_place_of_the_first(self, tmp_path: Path) -> None:
        old, new = new_key(tmp_path, "ann"), new_key(tmp_path, "ann", "read")
        with running(tmp_path) as client:
            job = client.post("/generate", json={"prompt": "ball", **SMALL}, headers=old).json()
            assert client.get(job["links"]["self"], headers=new).json() == job

    def test_a_key_appears_in_no_answer_and_no_log(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logger = logging.getLogger("scaledreamer")
        for name in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logger, name, getattr(logger, name))
        configure("debug", "json")
        ann, wrong = new_key(tmp_path, "ann"), {"authorization": "Bearer sdk_wrong"}
        with running(tmp_path) as client:
            answers = [
                client.post("/generate", json={"prompt": "ball", **SMALL}, headers=headers)
                for headers in (ann, wrong, {"x-api-key": "sdk_wrong"})
            ]
            answers.append(client.get("/metrics", headers=ann))
        assert [answer.status_code for answer in answers] == [200, 401, 401, 200]
        told = capsys.readouterr().err + "".join(f"{answer.headers} {answer.text}" for answer in answers)
        assert '"owner": "ann"' in told
        assert "sdk_wrong" not in told and ann["authorization"].split()[1] not in told


@pytest.fixture(scope="class")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, dict[str, dict[str, str]]]]:
    """A server with keys of two owners, and one that may only look."""
    data = tmp_path_factory.mktemp("keyed")
    keys = {"ann": new_key(data, "ann"), "bob": new_key(data, "bob"), "eve": new_key(data, "eve", "read")}
    with running(data) as client:
        yield client, keys


Keyed = tuple[httpx.Client, dict[str, dict[str, str]]]


class TestDoors:
    @pytest.mark.parametrize("path", ["/", "/docs", "/web/icon.svg", "/openapi.json", "/health/live", "/health/ready"])
    def test_pages_and_probes_take_no_key(self, keyed: Keyed, path: str) -> None:
        assert keyed[0].get(path).status_code == 200

    def test_all_else_needs_one(self, keyed: Keyed) -> None:
        client, _ = keyed
        document = client.get("/openapi.json").json()
        doors = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
        doors += [("GET", "/metrics"), ("GET", "/nowhere"), ("OPTIONS", "/v1/jobs"), ("HEAD", "/v1/jobs/x/files/y")]
        closed = [door for door in doors if not door[1].startswith("/health/")]
        assert len(closed) == len(doors) - 2 and len(closed) > 10
        for method, path in closed:
            answer = client.request(method, path)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", (method, path)
            if method != "HEAD":
                assert "scaledreamer keys create" in check_problem(answer, 401, "unauthenticated")["detail"]
            if method != "OPTIONS" and path.startswith(("/v1", "/generate")):
                documented = document["paths"].get(path, {}).get(method.lower(), {"responses": {"401": 0, "403": 0}})
                assert {"401", "403"} <= set(documented["responses"]), (method, path)

    @pytest.mark.parametrize("given", ["sdk_wrong", "sdk_" + "A" * 43, "", "é"])
    def test_a_wrong_key_opens_nothing(self, keyed: Keyed, given: str) -> None:
        answer = keyed[0].get("/v1/jobs", headers=[(b"x-api-key", given.encode())])
        check_problem(answer, 401, "unauthenticated")

    def test_a_key_that_may_look_may_do_nothing_else(self, keyed: Keyed) -> None:
        client, keys = keyed
        job = client.post("/generate", json={"prompt": "ball", **SMALL}, headers=keys["ann"]).json()["links"]["self"]
        for method, path in [
            ("POST", "/generate"), ("POST", "/v1/jobs"), ("POST", f"{job}/cancel"), ("POST", f"{job}/exports"),
            ("DELETE", job),
        ]:  # fmt: skip
            answer = client.request(method, path, headers=keys["eve"])
            check_problem(answer, 403, "forbidden")
            assert 'scope="generate"' in answer.headers["www-authenticate"]
        for path in ("/v1/jobs", "/v1/models", "/metrics"):
            assert client.get(path, headers=keys["eve"]).status_code == 200

    def test_two_keys_never_see_each_other_s_jobs(self, keyed: Keyed) -> None:
        client, keys = keyed
        ann, bob, small = keys["ann"], keys["bob"], {"prompt": "a ball of her own", **SMALL}
        job = client.post("/generate", json=small, headers={**ann, "idempotency-key": "one"}).json()
        running_ = client.post("/v1/jobs", json={"prompt": "slow ball", **SMALL}, headers=ann).json()
        for each in (job, running_):
            address: str = each["links"]["self"]
            file: str = job["files"][0]["name"]
            for method, path in [
                ("GET", address), ("DELETE", address), ("POST", f"{address}/cancel"), ("POST", f"{address}/exports"),
                ("GET", f"{address}/events"), ("GET", f"{address}/files/{file}"), ("HEAD", f"{address}/files/{file}"),
            ]:  # fmt: skip
                answer = client.request(method, path, headers=bob)
                assert answer.status_code == 404, (method, path)
                if method != "HEAD":
                    # What is not there at all is answered in the same words.
                    problem, other = check_problem(answer, 404, "job-not-found"), "01900000-0000-7000-8000-000000000000"
                    there = client.request(method, path.replace(each["id"], other), headers=bob).json()
                    assert json.dumps(problem).replace(each["id"], other) == json.dumps(there)
        assert client.get("/v1/jobs", headers=bob).json() == {"jobs": [], "next": None}
        assert finished(client, running_["links"]["self"], headers=ann)["status"] == "succeeded"
        assert [each["id"] for each in client.get("/v1/jobs", headers=ann).json()["jobs"]][:2] == [
            running_["id"], job["id"],
        ]  # fmt: skip
        # The same request is answered from what is kept, as a job of his own; so is the same idempotency key.
        his = client.post("/generate", json=small, headers={**bob, "idempotency-key": "one"}).json()
        assert his["id"] != job["id"] and his["files"][0]["sha256"] == job["files"][0]["sha256"]
        assert client.delete(his["links"]["self"], headers=bob).status_code == 204
        assert client.get(job["files"][0]["url"], headers=ann).status_code == 200, "hers stays"
