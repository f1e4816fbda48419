"""The application: settings and the handlers of its processes in, a FastAPI app out."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from scaledreamer.errors import ScaleDreamerError
from scaledreamer.server import job_routes, pages, problems, routes
from scaledreamer.server.admission import Admission
from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.auth import Auth, KeyRing
from scaledreamer.server.child import Factory, Handler
from scaledreamer.server.context import Context
from scaledreamer.server.costs import Costs
from scaledreamer.server.disk import Disk
from scaledreamer.server.documents import describe
from scaledreamer.server.engine import Executor, Places
from scaledreamer.server.finishing import Finishing
from scaledreamer.server.flow import Flow
from scaledreamer.server.generating import Generating
from scaledreamer.server.housekeeping import Housekeeping
from scaledreamer.server.limits import Limits
from scaledreamer.server.logs import JobLog, RequestLog
from scaledreamer.server.metrics import Metrics
from scaledreamer.server.metrics import install as install_metrics
from scaledreamer.server.models import ModelFile, read_model
from scaledreamer.server.process import Process
from scaledreamer.server.security import Guard
from scaledreamer.server.settings import Settings
from scaledreamer.server.works import WorksConfig

if TYPE_CHECKING:
    from scaledreamer.server.ray_app import Cluster

log = logging.getLogger("scaledreamer.server")


def create_app(
    settings: Settings | None = None,
    model: ModelFile | None = None,
    generating: Factory | None = None,
    finishing: Factory = Finishing,
    on_failure: Callable[[str], None] | None = None,
) -> FastAPI:
    """`generating` and `finishing` build the handlers inside their processes and must be picklable.

    `on_failure` hears why the model cannot be used. Raises ModelFileError for a model that is not one.
    """
    settings = settings or Settings()
    model = model or read_model(settings.model)

    reads_model = generating is None
    make: Callable[..., Handler] = generating or partial(
        Generating, text_encoder=settings.text_encoder, device=settings.device, accelerator=settings.accelerator
    )
    cluster = join_cluster(settings) if settings.executor == "ray" else None

    def open_generator(model: ModelFile) -> Executor:
        if cluster is not None:
            return cluster.generator(model, make, reads_model)
        return Process(partial(make, str(model.path)) if reads_model else make, settings.threads)

    def open_mesher() -> Executor:
        return cluster.mesher(finishing) if cluster is not None else Process(finishing, settings.threads)

    artifacts = Artifacts(settings.artifacts_url)
    flow = Flow(
        WorksConfig(settings.generators, settings.mesh_processes, settings.batch, settings.job_limit,
                    settings.max_growth_bytes),
        Places(settings.data), artifacts, model,
        open_generator, open_mesher,
    )  # fmt: skip
    flow.works.on_failure = on_failure
    metrics, costs, keys = Metrics(), Costs(), KeyRing(flow.ledger)
    flow.book.watchers += [metrics, costs, JobLog(settings.log_prompts)]
    disk = Disk([settings.data, *([Path(artifacts.root)] if artifacts.local else [])], settings.min_free_bytes)
    housekeeping = Housekeeping(settings, flow, artifacts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await flow.start()
        await keys.read()
        on_hangup(flow, settings)
        beside = [asyncio.create_task(housekeeping.run()), asyncio.create_task(metrics.watch_the_loop())]
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await flow.stop(settings.drain_seconds)
            if cluster is not None:
                await asyncio.to_thread(cluster.close)

    app = FastAPI(
        title="ScaleDreamer",
        summary="Text to 3D: one prompt in, one asset out",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.context = Context(settings, flow, artifacts, Admission(settings, flow, disk, costs))
    app.add_middleware(Limits, rate=settings.rate, burst=settings.burst)
    app.add_middleware(Auth, keys=keys, host=settings.host)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(RequestLog, metrics=metrics)
    problems.install(app)
    app.include_router(routes.router)
    app.include_router(job_routes.router)
    install_metrics(app, metrics, flow)
    pages.install(app)
    generate: Callable[[], dict[str, Any]] = app.openapi
    app.openapi = lambda: app.openapi_schema or describe(generate())  # type: ignore[method-assign]
    return app


def join_cluster(settings: Settings) -> "Cluster":
    """Ray, loaded only where it is asked for. Raises ConfigError, with the remedy."""
    from scaledreamer.server.ray_app import Cluster

    return Cluster(settings)


def on_hangup(flow: Flow, settings: Settings) -> None:
    """SIGHUP reads the model's file again; the one that runs stays if the new one cannot be used."""

    async def reload() -> None:
        try:
            await flow.reload(await asyncio.to_thread(read_model, settings.model))
        except (ScaleDreamerError, OSError) as error:
            log.error("the model stays as it is: %s", error)

    with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):  # no signals here: Windows, a thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: flow.book.tasks.spawn(reload()))
