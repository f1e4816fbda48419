"""Ray Serve in the place of this machine's processes: two stages as deployments, asked through the same calls.

Ray is an executor and nothing more: jobs, files and the HTTP door stay with the web process (docs/adr/0003). The door
of Serve stays closed.
"""

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from scaledreamer import __version__
from scaledreamer.errors import ConfigError
from scaledreamer.files import atomic_path
from scaledreamer.server.child import Factory, Handler
from scaledreamer.server.models import ModelFile
from scaledreamer.server.parcels import deliver, pack
from scaledreamer.server.process import ProcessDied, Tell
from scaledreamer.server.ray_rules import check_cluster, check_dashboard, check_ray
from scaledreamer.server.ray_stage import Order, SentModel, Stage
from scaledreamer.server.settings import Settings

log = logging.getLogger("scaledreamer.server")
SLACK = 30.0  # seconds past its time after which a silent replica is given up; it stops the work itself
LOCK = threading.Lock()  # Serve changes deployments in one thread of a process at a time: it marks modules meanwhile
PAUSE = 1.0  # seconds before a stage that Ray cannot run is asked for again


class Cluster:
    """A connection to Ray, and what this server has deployed there. Raises ConfigError."""

    def __init__(self, settings: Settings) -> None:
        check_ray()
        address = os.environ.get("RAY_ADDRESS") or "local"
        if address != "local":
            check_cluster(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray import serve

        own = {"include_dashboard": False} if address == "local" else {}
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            context = ray.init(
                address, namespace="scaledreamer", log_to_driver=False, logging_level="warning",
                ignore_reinit_error=True, **own,
            )  # fmt: skip
        except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"cannot join the Ray cluster at {address}: {error}") from error
        check_dashboard(context.dashboard_url)
        serve.start(proxy_location="Disabled")
        self.settings, self.ray, self.serve = settings, ray, serve
        self.name = f"scaledreamer-{own_name(settings.data / 'ray-name')}-"
        self.stages: dict[str, Replicas] = {}
        for app in self.deployed():
            serve.delete(app, _blocking=False)  # of an earlier web process, which was killed

    def deployed(self) -> list[str]:
        """The names of this server's applications."""
        return [name for name in self.serve.status().applications if name.startswith(self.name)]

    def generator(self, model: ModelFile, factory: Callable[..., Handler], reads_model: bool) -> "Slot":
        """A generator; its factory takes the path of the model, if it reads one."""
        settings = self.settings
        gpus = 1 if settings.device.startswith("cuda") else 0
        send = partial(self.send, model) if reads_model else None
        return self.slot(f"generator-{model.sha256[:12]}", settings.generators, gpus, factory, send)

    def mesher(self, factory: Factory) -> "Slot":
        """A mesh process."""
        return self.slot("mesh", self.settings.mesh_processes, 0, factory)

    def slot(
        self, name: str, replicas: int, gpus: int, factory: Callable[..., Handler],
        send: Callable[[], SentModel] | None = None,
    ) -> "Slot":  # fmt: skip
        """One more caller of a stage, which has as many replicas as callers."""
        if name not in self.stages:
            order = partial(Order, __version__, factory, self.settings.threads, self.settings.max_growth_bytes)
            needs = {"num_cpus": self.settings.threads, "num_gpus": gpus}
            self.stages[name] = Replicas(self, self.name + name, replicas, needs, order, send)
        return Slot(self.stages[name])

    def send(self, model: ModelFile) -> SentModel:
        """Put the model where every machine gets it from."""
        return SentModel(model.path.name, model.sha256, self.ray.put(model.path.read_bytes()))

    def close(self) -> None:
        """Take back all that this server has deployed."""
        with LOCK:
            for app in self.deployed():
                self.serve.delete(app, _blocking=False)


class Replicas:
    """Of one stage: an application of Ray Serve, deployed at the first call, taken back with the last slot."""

    def __init__(
        self, cluster: Cluster, name: str, count: int, needs: dict[str, int], order: Callable[..., Order],
        send: Callable[[], SentModel] | None,
    ) -> None:  # fmt: skip
        self.cluster, self.name, self.count, self.needs = cluster, name, count, needs
        self.order, self.send = order, send
        self.app = ""  # a new name each time, for Serve remembers of a name that it has been taken back
        self.slots = 0
        self.deployment: asyncio.Task[tuple[Any, Order]] | None = None

    async def opened(self) -> tuple[Any, Order]:
        """A handle, and what each call brings along. Raises ProcessDied where Ray cannot be asked now."""
        if self.deployment is None:
            self.deployment = asyncio.create_task(asyncio.to_thread(self.deploy))
        try:
            return await asyncio.shield(self.deployment)
        except Exception as error:
            raise await self.failed(str(error)) from error

    async def failed(self, reason: str) -> ProcessDied:
        """They are deployed again at the next call, which does not come at once."""
        log.error("Ray cannot run %s: %s", self.name, reason)
        self.deployment = None
        await asyncio.sleep(PAUSE)
        return ProcessDied(idle=True)

    def deploy(self) -> tuple[Any, Order]:
        """In a thread: Serve waits for its controller."""
        serve, cluster = self.cluster.serve, self.cluster
        with LOCK:
            if self.app:
                serve.delete(self.app, _blocking=False)
            self.app = f"{self.name}-{secrets.token_hex(3)}"
            stage = serve.deployment(Stage, name=self.name.removeprefix(cluster.name)).options(
                num_replicas=self.count, max_ongoing_requests=1, graceful_shutdown_timeout_s=2,
                graceful_shutdown_wait_loop_s=0.2, ray_actor_options=self.needs,
                logging_config={"log_level": "WARNING", "enable_access_log": False},
            )  # fmt: skip
            self.warn()
            target = serve.RunTarget(stage.bind(), name=self.app, route_prefix=None)
            (handle,) = serve.run_many([target], wait_for_applications_running=False)
        return handle.options(stream=True), self.order(self.send and self.send())

    def warn(self) -> None:
        """Replicas for which the cluster has no room wait, silently; where none of a stage fits, so do all jobs."""
        have, stages = self.cluster.ray.cluster_resources(), list(self.cluster.stages.values())
        for kind, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            wanted = sum(stage.count * stage.needs[kind] for stage in stages)
            if wanted > have.get(resource, 0):
                log.warning(
                    "all stages together need %d %s and the cluster has %g; replicas without room wait until it grows",
                    wanted, resource, have.get(resource, 0),
                )  # fmt: skip

    def explain(self) -> str:
        """What Serve says of them."""
        with suppress(Exception):
            return str(self.cluster.serve.status().applications[self.app].message)
        return "Serve does not answer"

    def leave(self) -> None:
        """One slot less; with the last one the application goes."""
        self.slots -= 1
        if self.slots == 0 and self.deployment is not None:
            self.deployment = None
            threading.Thread(target=self.remove, daemon=True).start()

    def remove(self) -> None:
        """In a thread: nobody waits for it, for Serve finishes it alone."""
        with LOCK, suppress(Exception):
            self.cluster.serve.delete(self.app, _blocking=False)


class Slot:
    """Asks one thing at a time of whichever replica is free: an `Executor`."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas
        self.replicas.slots += 1
        self.asking: asyncio.Task[Any] | None = None
        self.grown = 0  # bytes, as told with the last answer; a replica replaces a process that has grown too much

    async def call(self, task: Any, tell: Tell | None = None, seconds: float | None = None) -> Any:
        """The handler's answer; the files that it made are where the task wants them.

        Raises ProcessDied, TimeoutError, OSError for files that cannot be written, and whatever the handler raised.
        `seconds` count from the moment when a replica has begun.
        """
        asking = self.asking = asyncio.create_task(self.ask(task, tell or (lambda _: None), seconds))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.cancel()
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise
            await asyncio.wait([asking])
            raise ProcessDied from None  # by `kill`
        finally:
            self.asking = None

    async def ask(self, task: Any, tell: Tell, seconds: float | None) -> Any:
        """The last word of a replica."""
        ray, loop, begun = self.replicas.cluster.ray, asyncio.get_running_loop(), False
        parcel = await asyncio.to_thread(pack, task)
        handle, order = await self.replicas.opened()
        stream = handle.remote(order, parcel, seconds)
        try:
            async with asyncio.timeout(None) as limit:
                async for kind, value in stream:
                    match kind:
                        case "begun":
                            begun = True
                            limit.reschedule(loop.time() + seconds + SLACK if seconds is not None else None)
                        case "said":
                            tell(value)
                        case "answer":
                            limit.reschedule(None)
                            answer, files, self.grown = value
                            await through(asyncio.to_thread(deliver, task, files))
                            return answer
                        case "died":
                            raise ProcessDied(idle=value)
                        case "late":
                            raise TimeoutError
                        case _:
                            raise value
            raise ProcessDied
        except ray.exceptions.RayTaskError as error:  # the replica lives; it could not even read the task
            raise RuntimeError(f"a replica failed: {error.cause}") from error
        except ray.exceptions.RayError as error:
            log.error("a replica of %s has gone: %s", self.replicas.name, str(error).partition("\n")[0])
            raise ProcessDied(idle=not begun) from error
        except self.replicas.cluster.serve.exceptions.RayServeException as error:
            raise await self.replicas.failed(await asyncio.to_thread(self.replicas.explain)) from error
        finally:
            with suppress(self.replicas.cluster.serve.exceptions.RayServeException):  # it never began
                stream.cancel()  # what has ended does not mind

    def kill(self) -> None:
        """Take back what was asked; the replica ends the process that is at it."""
        if self.asking is not None:
            self.asking.cancel()

    def restart(self) -> None:
        """Take back what was asked. Replicas replace dead and grown processes, Ray replaces dead replicas."""
        self.kill()
        self.grown = 0

    def close(self) -> None:
        """Take back what was asked, and ask for nothing more."""
        self.kill()
        self.replicas.leave()


async def through(awaitable: Any) -> None:
    """Finish it, also when canceled meanwhile: files are not written behind the back of who removes them."""
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def own_name(path: Path) -> str:
    """Of this server among others on the cluster; the same after a restart, so that it finds what it left there."""
    if not path.exists():
        with atomic_path(path) as partial_file:
            partial_file.write_text(secrets.token_hex(4))
    return path.read_text().strip()
