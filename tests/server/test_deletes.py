"""What a deleted job leaves behind: nothing."""

import sqlite3
from pathlib import Path

from scaledreamer.server.database import FILE
from tests.server.running import finished
from tests.server.served import Served, files_with, served, until
from tests.server.test_requests import check_problem


class TestDelete:
    def test_nothing_is_left_of_a_prompt(self, tmp_path: Path) -> None:
        with served(tmp_path) as server:
            words = ["a secret ball", "nothing secret", "slow secret while meshing", "hang secret while meshing"]
            jobs = [server.start(word) for word in words]
            for job in jobs[:3]:
                finished(server.client, job["links"]["self"])
            until(lambda: server.meshes.read("hang secret"))
            url = server.client.get(jobs[0]["links"]["self"]).json()["files"][0]["url"]
            for job in jobs:
                assert server.client.delete(job["links"]["self"]).status_code == 204
                check_problem(server.client.get(job["links"]["self"]), 404, "job-not-found")
                check_problem(server.client.delete(job["links"]["self"]), 404, "job-not-found")
            check_problem(server.client.get(url), 404, "job-not-found")
            rows = sqlite3.connect(server.folder / FILE)
            for table in ("jobs", "events", "artifacts", "idempotency"):
                assert rows.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
            rows.close()
            until(lambda: not [*files_with(server.folder / "work"), *files_with(server.folder / "fields")])
            assert not list((server.folder / "artifacts").iterdir())
        assert not list(files_with(tmp_path / "data", b"secret")), "not even in free pages of the database"

    def test_what_another_job_shows_stays(self, server: Served) -> None:
        first, second = server.make("a shared ball"), server.make("a shared ball")
        server.client.delete(first["links"]["self"])
        assert server.client.get(second["files"][0]["url"]).status_code == 200
        export = server.client.post(second["links"]["exports"], json={"formats": ["stl"]}).json()
        server.done(export)
        assert len(server.fields.read("a shared ball")) == 1

    def test_a_job_deleted_while_its_field_is_made_leaves_none(self, server: Served) -> None:
        before = set(files_with(server.folder / "fields"))
        job = server.start("a slow ball deleted on the way")
        until(lambda: server.fields.read("deleted on the way"))
        assert server.client.delete(job["links"]["self"]).status_code == 204
        server.make("a ball after the deleted one")
        until(lambda: len(set(files_with(server.folder / "fields")) - before) == 1)
        assert not list(files_with(server.folder / "fields", b"deleted on the way"))
