"""What requests are expected to cost, what they did, and how much may wait."""

import math
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaledreamer.export.presets import asset_settings
from scaledreamer.server.costs import PRIOR, Costs, check_cost, cost_parts
from scaledreamer.server.engine import Watcher, Work
from scaledreamer.server.line import Line
from scaledreamer.server.problems import ProblemError
from scaledreamer.server.records import Failure, Outcome, Wanted
from scaledreamer.server.resolve import resolve
from scaledreamer.server.schemas import GenerateRequest, parse_request
from tests.server.fakes import MODEL, SLOW
from tests.server.running import finished, running
from tests.server.test_requests import check_problem

SMALL = {"resolution": 32, "formats": ["glb"]}


def cost(preset: str = "prop", **given: Any) -> float:
    return sum(cost_parts(asset_settings(preset, **given)).values())


def work(seconds: float, name: str = "a") -> Work:
    return Work(Wanted({}, {}, name, "ball", name, name, seconds))


class TestEstimates:
    @pytest.mark.parametrize(
        ("preset", "given", "seconds"),
        [  # CPU-seconds of "a red wooden barrel" on one core, finishing and files
            ("raw", {}, 1.0), ("raw", {"resolution": 256}, 4.4), ("raw", {"resolution": 512}, 18.3),
            ("mobile", {}, 4.1), ("hero", {}, 20.2), ("print", {}, 11.8), ("prop", {}, 6.1), ("prop", {"lods": 0}, 4.5),
            ("prop", {"texture": 0}, 3.8), ("prop", {"texture": 2048}, 12.6), ("prop", {"texture": 4096}, 32.8),
            ("prop", {"faces": 50_000}, 11.4), ("prop", {"collision": "convex"}, 6.1),
            ("prop", {"resolution": 512}, 18.9), ("prop", {"lods": 5, "faces": 200_000, "resolution": 256}, 50.5),
        ],
    )  # fmt: skip
    def test_they_are_near_what_was_measured(self, preset: str, given: dict[str, Any], seconds: float) -> None:
        assert seconds / 1.6 < cost(preset, **given) < seconds * 1.6

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("resolution", [32, 64, 128, 256, 512]), ("texture", [0, 256, 512, 1024, 2048, 4096]),
            ("faces", [20, 1000, 10_000, 60_000]), ("collision", ["none", "box", "hull", "convex"]), ("lods", [0, 1]),
            ("tight", [False, True]), ("mode", ["fast", "exact"]), ("thumbnail", [0, 512]),
        ],
    )  # fmt: skip
    def test_more_costs_more(self, name: str, values: list[Any]) -> None:
        costs = [cost(**{name: value}) for value in values]
        assert costs == sorted(set(costs)) and costs[0] > 0

    def test_faces_that_a_lattice_cannot_have_cost_nothing(self) -> None:
        assert cost(faces=100_000, resolution=64) == cost(faces=500_000, resolution=64)

    def test_the_dearest_fields_are_named(self) -> None:
        check_cost(asset_settings(texture=4096), 60)
        with pytest.raises(ProblemError, match=r"lower texture 4096 \(2\d s\)$") as caught:
            check_cost(asset_settings(texture=4096), 20)
        assert [fault.pointer for fault in caught.value.errors] == ["/texture"]
        with pytest.raises(ProblemError, match=r"lower faces 500000 .*, lods 3 \(1\d\d s\)$") as caught:
            check_cost(asset_settings(faces=500_000, resolution=512), 120)
        assert [fault.field for fault in caught.value.errors] == ["faces", "lods"]

    def test_something_is_named_even_where_the_rest_is_most_of_it(self) -> None:
        with pytest.raises(ProblemError, match="lower resolution 32"):
            check_cost(asset_settings("raw", resolution=32, thumbnail=512), 0.1)

    def test_works_that_took_longer_make_the_next_ones_look_longer(self) -> None:
        costs, one = Costs(), work(10)
        assert costs.seconds(10) == 10
        one.seconds = 30
        costs.ended(one, Failure("empty-mesh", "nothing"))
        costs.ended(work(0), Outcome((), {}))
        assert costs.seconds(10) == 10, "failures and works of unknown cost teach nothing"
        costs.ended(one, Outcome((), {}))
        assert 10 < costs.seconds(10) == pytest.approx(10 * (0.95 * PRIOR + 30) / (0.95 * PRIOR + 10))
        for _ in range(200):
            costs.ended(one, Outcome((), {}))
        assert costs.seconds(10) == pytest.approx(30, rel=0.01)


class TestLine:
    def test_places_and_what_is_before_each(self) -> None:
        line, works = Line(), [work(seconds) for seconds in (1, 2, 4)]
        for each in works:
            line.append(each)
        assert [line.place(each) for each in works] == [(1, 0), (2, 1), (3, 3)] and line.cost == 7
        line.remove(works[1])
        assert [line.place(each) for each in works] == [(1, 0), None, (2, 1)] and line.cost == 5
        assert works[1] not in line and line.pop() is works[0]
        line.append(works[0], first=True)
        assert list(line) == [works[0], works[2]] and line.place(works[2]) == (2, 1)
        assert line.pop() is works[0] and line.pop() is works[2] and not line and line.cost == 0

    def test_equal_works_are_two(self) -> None:
        line, same = Line(), [work(1), work(1)]
        for each in same:
            line.append(each)
        assert len(line) == 2 and line.place(same[1]) == (2, 1)

    def test_places_are_counted_once_for_all_who_ask(self) -> None:
        line, works = Line(), [work(1, str(number)) for number in range(100)]
        for each in works:
            line.append(each)
        assert line.cost == 100
        counted = line.places
        assert counted is not None and [line.place(each) for each in works] == [counted[each] for each in works]
        assert line.places is counted


@pytest.fixture
def unteachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates stay what they are."""
    monkeypatch.setattr(Costs, "ended", Watcher.ended)


def busy(client: httpx.Client) -> list[str]:
    """As many slow works as begin at once: one in the generator's process, one before it."""
    jobs = [client.post("/v1/jobs", json={"prompt": f"slow ball {n}", **SMALL}).headers["location"] for n in "ab"]
    for job in jobs:
        while client.get(job).json()["status"] == "queued":
            time.sleep(0.01)
    return jobs


def test_too_dear_a_request_is_refused_everywhere(tmp_path: Path) -> None:
    with running(tmp_path, max_cost_seconds=10) as client:
        dear = {"prompt": "ball", "texture": 4096}
        for door in ("/generate", "/v1/jobs"):
            problem = check_problem(client.post(door, json=dear), 422, "cost-too-high")
            assert problem["errors"][0]["pointer"] == "/texture" and "10 is the limit" in problem["detail"]
        job = client.post("/generate", json={"prompt": "ball", **SMALL}).json()
        check_problem(client.post(f"{job['links']['exports']}", json={"texture": 4096}), 422, "cost-too-high")


@pytest.mark.usefixtures("unteachable")
def test_the_queue_is_bounded_in_seconds(tmp_path: Path) -> None:
    def start(prompt: str, **given: object) -> httpx.Response:
        return client.post("/v1/jobs", json={"prompt": prompt, **SMALL, **given})

    light, heavy = cost(resolution=32), cost("hero")
    with running(tmp_path, max_queue_seconds=heavy + 1.5 * light) as client:
        client.post("/generate", json={"prompt": "ball", **SMALL})
        jobs = busy(client)
        assert start("heavy", preset="hero", resolution=256).status_code == 202, "alone, anything may wait"
        assert start("light").status_code == 202
        full = start("light too")
        assert "2 works wait" in check_problem(full, 503, "queue-full")["detail"]
        assert int(full.headers["retry-after"]) == math.ceil(0.5 * light)
        assert start("light").status_code == 202, "work that waits already adds nothing"
        assert start("ball").json()["status"] == "succeeded", "nor does what is kept"
        assert client.delete(jobs[1]).status_code == 204 and client.get("/v1/jobs").status_code == 200


@pytest.mark.usefixtures("unteachable")
def test_a_job_knows_about_when_it_ends(tmp_path: Path) -> None:
    def look(address: str) -> tuple[str, float | None]:
        job = client.get(address).json()
        return job["status"], job["eta_seconds"]

    with running(tmp_path) as client:
        jobs = busy(client)
        waiting = [client.post("/v1/jobs", json={"prompt": word, **SMALL}).headers["location"] for word in ("c", "d")]
        etas = [look(job)[1] for job in (*jobs, *waiting)]
        each = cost(resolution=32)
        assert etas[:2] == [pytest.approx(0.98 * each, abs=0.1)] * 2, "they run and are at their beginning"
        assert etas[2:] == [
            pytest.approx(each * (2 * 0.98 + 1), abs=0.2),
            pytest.approx(each * (2 * 0.98 + 2), abs=0.2),
        ]
        for job in (*jobs, *waiting):
            finished(client, job)
            assert look(job) == ("succeeded", None)
        first = client.get(jobs[0]).json()
        assert first["timings_ms"]["total"] >= 1000 * SLOW
        dropped = client.post("/v1/jobs", json={"prompt": "slow ball z", **SMALL}).json()["links"]["self"]
        client.post(f"{dropped}/cancel")
        assert look(dropped) == ("canceled", None)


def test_what_was_learnt_is_seen_in_the_next_job(tmp_path: Path) -> None:
    def eta(word: str) -> float:
        job = client.post("/v1/jobs", json={"prompt": f"slow {word}", **SMALL}).json()
        client.post(f"{job['links']['self']}/cancel")
        return float(job["eta_seconds"])

    with running(tmp_path) as client:
        before = eta("first")
        for number in range(3):
            client.post("/generate", json={"prompt": f"ball {number}", **SMALL})
        assert eta("second") < before, "balls are quicker than props"


def test_a_resolved_request_knows_its_cost() -> None:
    def resolved(**body: object) -> float:
        return resolve(parse_request({"prompt": "x", **body}, GenerateRequest), MODEL).cost

    assert resolved() == cost() and resolved(preset="hero", texture=4096) == cost("hero", texture=4096)
