"""What an operator watches, in Prometheus' text format; never labelled by prompt, key or job."""

import asyncio
import time

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from scaledreamer.server.context import guarded
from scaledreamer.server.engine import Watcher, Work
from scaledreamer.server.flow import Flow
from scaledreamer.server.records import STATUSES, Failure, Outcome

LAG_EVERY = 0.1  # seconds between looks at the event loop
LAG_BUCKETS = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3, 1, 3)
STAGE_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
REQUEST_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics(Watcher):
    """All numbers of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def named(name: str) -> str:
            return f"scaledreamer_{name}"

        self.works = Counter(named("works_total"), "Works that have ended", ["outcome"], registry=registry)
        self.jobs = Gauge(named("jobs"), "Jobs that are known, by status", ["status"], registry=registry)
        self.queue = Gauge(named("queue_depth"), "Works that wait", registry=registry)
        self.busy = Gauge(named("works_running"), "Works that have begun", registry=registry)
        self.ready = Gauge(named("ready"), "1 when the model has generated", registry=registry)
        self.stages = Histogram(
            named("stage_seconds"), "Of one work", ["stage"], buckets=STAGE_BUCKETS, registry=registry
        )
        self.batches = Histogram(
            named("batch_size"), "Fields in one pass", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.restarts = Counter(
            named("process_restarts_total"), "Processes replaced", ["kind", "reason"], registry=registry
        )
        self.degraded = Counter(named("degraded_total"), "Assets with less than was asked", registry=registry)
        self.requests = Counter(named("http_requests_total"), "Answers", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            named("http_request_seconds"),
            "Until an answer begins",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.lag = Histogram(
            named("event_loop_lag_seconds"), "How late the event loop is", buckets=LAG_BUCKETS, registry=registry
        )

    def ended(self, work: Work, result: Outcome | Failure) -> None:
        if isinstance(result, Failure):
            self.works.labels(result.code).inc()
            return
        self.works.labels("succeeded").inc()
        for stage, milliseconds in result.timings_ms.items():
            self.stages.labels(stage).observe(milliseconds / 1000)
        if result.report.get("degraded"):
            self.degraded.inc()

    def batched(self, count: int) -> None:
        self.batches.observe(count)

    def restarted(self, kind: str, reason: str) -> None:
        self.restarts.labels(kind, reason).inc()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """An HTTP answer has begun."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    async def watch_the_loop(self) -> None:
        """Until it is canceled: how much later than asked for the event loop comes back."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LAG_EVERY)
            self.lag.observe(max(0.0, time.perf_counter() - began - LAG_EVERY))

    async def text(self, flow: Flow) -> bytes:
        """Everything now."""
        counts = await flow.ledger.ask(flow.ledger.store.counts)
        for status in STATUSES:
            self.jobs.labels(status).set(counts.get(status, 0))
        self.queue.set(len(flow.book.waiting))
        self.busy.set(flow.book.busy)
        self.ready.set(flow.ready)
        return generate_latest(self.registry)


def install(app: FastAPI, metrics: Metrics, flow: Flow) -> None:
    """`GET /metrics`."""

    async def show(_: Request) -> Response:
        return Response(await guarded(metrics.text(flow)), media_type=CONTENT_TYPE_LATEST)

    app.add_route("/metrics", show, methods=["GET"], include_in_schema=False)
