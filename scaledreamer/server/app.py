"""The application: settings and a pipeline factory in, a FastAPI app out."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI

from scaledreamer.server import pages, problems
from scaledreamer.server.jobs import JobStore
from scaledreamer.server.pool import Pool
from scaledreamer.server.routes import PROBLEM_SCHEMA, router
from scaledreamer.server.security import Guard
from scaledreamer.server.settings import Settings
from scaledreamer.server.worker import Factory, load_pipeline


def create_app(
    settings: Settings | None = None, factory: Factory | None = None, on_failure: Callable[[str], None] | None = None
) -> FastAPI:
    """`factory` runs in the worker process and must be picklable; `on_failure` hears why the model cannot be used."""
    settings = settings or Settings()
    factory = factory or partial(load_pipeline, settings.model, settings.text_encoder, settings.device)
    limits = {"max_queued": settings.max_queued, "keep_jobs": settings.keep_jobs, "keep_days": settings.keep_days}
    store = JobStore(settings.data / "jobs", **limits)  # type: ignore[arg-type]
    pool = Pool(
        store,
        factory,
        model_id=settings.model_id,
        workers=settings.workers,
        threads=settings.threads,
        job_limit=settings.job_limit,
        on_failure=on_failure,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        store.sweep()
        pool.start()
        try:
            yield
        finally:
            await pool.stop()

    app = FastAPI(
        title="ScaleDreamer",
        summary="Text to 3D: one prompt in, one mesh out",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings, app.state.store, app.state.pool = settings, store, pool
    app.add_middleware(Guard, settings=settings)
    problems.install(app)
    app.include_router(router)
    pages.install(app)
    _document_problems(app)
    return app


def _document_problems(app: FastAPI) -> None:
    """Every error has one schema, which no route returns by its type; so it is added by hand."""
    generate: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schema = {key: value for key, value in PROBLEM_SCHEMA.items() if key != "$defs"}
        schemas.update(PROBLEM_SCHEMA.get("$defs", {}))
        schemas["Problem"] = schema
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path in document["paths"].values():
            for operation in path.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
