"""A job's events as they are sent to whoever listens."""

import json
from pathlib import Path

import pytest

from scaledreamer.server import job_routes
from tests.server.fakes import SLOW
from tests.server.served import Served, parse, served
from tests.server.test_requests import check_problem


class TestEvents:
    def test_they_tell_the_story_and_end(self, server: Served) -> None:
        job = server.start("a slow ball with events while meshing")
        answer = server.client.get(job["links"]["events"])
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith("retry: 1000\n\n")
        events = parse(answer.text)
        assert [event["id"] for event in events] == [str(number) for number in range(1, len(events) + 1)]
        kinds = [event["event"] for event in events]
        assert kinds[:2] == ["queued", "running"] and kinds[-1] == "succeeded" and set(kinds[2:-1]) == {"stage"}
        data = [json.loads(event["data"]) for event in events]
        assert {each["job"] for each in data} == {job["id"]}
        progress = [each["progress"] for each in data if "progress" in each]
        assert progress == sorted(progress) and {"extract", "export"} <= {each.get("stage") for each in data}

    def test_they_go_on_after_the_last_one_seen(self, server: Served) -> None:
        job = server.make("a ball whose stream broke")
        events = parse(server.client.get(job["links"]["events"]).text)
        rest = parse(server.client.get(job["links"]["events"], headers={"last-event-id": "2"}).text)
        assert rest == events[2:]
        assert not parse(server.client.get(job["links"]["events"], headers={"last-event-id": "99"}).text)

    @pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 10, "²"])
    def test_a_number_that_is_none_is_refused(self, server: Served, last: str) -> None:
        job = server.make("a ball whose stream broke")
        headers = {"last-event-id": last.encode("latin-1")}
        check_problem(server.client.get(job["links"]["events"], headers=headers), 422, "invalid-request")

    def test_a_silent_stream_beats(self, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(job_routes, "HEARTBEAT", SLOW / 10)
        text = server.client.get(server.start("a slow ball in silence")["links"]["events"]).text
        assert 3 <= text.count("\n: \n") <= 12 and text.rstrip().rpartition("event: ")[2].startswith("succeeded")

    def test_a_listener_that_leaves_is_no_trouble(self, server: Served) -> None:
        job = server.start("a slow ball that is left")
        with server.client.stream("GET", job["links"]["events"]) as answer:
            assert next(answer.iter_lines()) == "retry: 1000"
        server.done(job)

    def test_a_key_has_so_many_open_and_no_more(self, tmp_path: Path) -> None:
        with served(tmp_path, max_streams=1) as server:
            job = server.start("a slow ball that is watched")
            address = job["links"]["events"]
            with server.client.stream("GET", address) as answer:
                lines = answer.iter_lines()
                assert next(lines) == "retry: 1000"
                problem = check_problem(server.client.get(address), 429, "too-many-in-flight")
                assert "1 streams" in problem["detail"]
            server.done(job)
            assert server.kinds(job)[-1] == "succeeded", "the stream that was left counts no more"
