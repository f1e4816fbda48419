"""More files of the field that a job has kept, and blends of two prompts."""

from pathlib import Path

from tests.server.running import finished, running
from tests.server.served import Served, files_with
from tests.server.test_requests import check_problem


class TestExports:
    def test_another_format_comes_from_the_kept_field(self, server: Served) -> None:
        job = server.make("a ball to export", size=2.0)
        answer = server.client.post(job["links"]["exports"], json={"formats": ["stl", "obj"], "lods": 0})
        export = server.done(answer.json())
        assert [file["format"] for file in export["files"]] == ["stl", "obj", "zip"]
        assert export["links"]["parent"] == job["links"]["self"] and export["prompt"] == job["prompt"]
        assert export["request"] == job["request"] | {"formats": ["stl", "obj"], "lods": 0}
        assert len(server.fields.read("a ball to export")) == 1 and len(server.meshes.read("a ball to export")) == 2

    def test_a_preset_begins_anew_and_keeps_the_prompt(self, server: Served) -> None:
        job = server.make("a ball for a phone", faces=900)
        export = server.client.post(job["links"]["exports"], json={"preset": "mobile"}).json()
        assert export["request"]["preset"] == "mobile" and export["request"]["faces"] != 900
        assert export["request"]["formats"] == ["glb", "obj"] and server.done(export)

    def test_the_same_export_is_a_file_that_is_there(self, server: Served) -> None:
        job = server.make("a ball exported twice")
        exports = [
            server.done(server.client.post(job["links"]["exports"], json={"formats": ["ply"]}).json()) for _ in range(2)
        ]
        assert exports[0]["id"] != exports[1]["id"] and len(server.meshes.read("a ball exported twice")) == 2
        assert [file["sha256"] for file in exports[0]["files"]] == [file["sha256"] for file in exports[1]["files"]]

    def test_a_field_that_is_gone_is_made_again(self, server: Served) -> None:
        job = server.make("a ball whose field was removed")
        for path in files_with(server.folder / "fields", b"whose field was removed"):
            path.unlink()
        server.done(server.client.post(job["links"]["exports"], json={"formats": ["ply"]}).json())
        assert len(server.fields.read("whose field was removed")) == 2

    def test_a_prompt_is_no_part_of_an_export(self, server: Served) -> None:
        job = server.make("a ball to export")
        answer = server.client.post(job["links"]["exports"], json={"prompt": "another"})
        assert "prompt" in check_problem(answer, 422, "invalid-request")["detail"]

    def test_no_job_no_export(self, server: Served) -> None:
        answer = server.client.post("/v1/jobs/01900000-0000-7000-8000-000000000000/exports", json={})
        check_problem(answer, 404, "job-not-found")


class TestBlend:
    def test_two_prompts_are_one_field_and_each_weight_another(self, server: Served) -> None:
        half = {"prompt": "a blended cube", "weight": 0.5}
        jobs = [server.make("a blended ball", blend=blend) for blend in (half, half | {"weight": 0.25}, half, None)]
        assert [job["request"]["blend"] for job in jobs] == [["a blended cube", w] for w in (0.5, 0.25, 0.5)] + [None]
        asked = [entry["blend"] for entry in server.fields.read("a blended ball")]
        assert asked == [["a blended cube", 0.5], ["a blended cube", 0.25], None]

    def test_the_weight_is_half_where_nothing_is_said(self, server: Served) -> None:
        assert server.start("a ball", blend={"prompt": "a cube"})["request"]["blend"] == ["a cube", 0.5]


def test_what_is_made_of_a_kept_field_warns_as_the_first_did(tmp_path: Path) -> None:
    said = []
    with running(tmp_path / "data", real=True) as client:
        for resolution in (32, 40):
            asked = {"prompt": "a corgi", "preset": "raw", "resolution": resolution}
            job = client.post("/v1/jobs", json=asked).json()
            said.append(finished(client, job["links"]["self"])["warnings"])
    assert "may not know what 'a corgi' asks for" in said[0][0] and said[0] == said[1]
