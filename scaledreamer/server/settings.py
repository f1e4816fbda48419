"""What an operator can set: flags of `scaledreamer serve`, or environment variables named SCALEDREAMER_<SETTING>."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """A frozen value; an unknown setting is an error."""

    model_config = SettingsConfigDict(env_prefix="SCALEDREAMER_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000  # 0 takes a free one
    data: Path = Path("data")  # the job store, files, fields
    allowed_hosts: tuple[str, ...] = ()  # names besides localhost and the bind address; "*" takes any
    allowed_origins: tuple[str, ...] = ()  # pages of other sites that may POST, such as "https://studio.example"

    model: str | None = None  # a name or a path; None is the bundled model
    text_encoder: str | None = None  # a Stable Diffusion folder, for models that read prompts with CLIP
    device: str = "cpu"
    accelerator: Literal["eager", "compile", "tensorrt"] = "eager"  # eager also where the other cannot be used
    executor: Literal["local", "ray"] = "local"  # where the processes run: here, or on a cluster (docs/scaling.md)
    generators: Annotated[int, Field(ge=1, le=64)] = 1  # processes; each holds the model once
    mesh_processes: Annotated[int, Field(ge=1, le=256)] = Field(default_factory=cores)
    threads: Annotated[int, Field(ge=1, le=256)] = 1  # of one process
    batch: Annotated[int, Field(ge=1, le=64)] = 1  # fields in one pass of the generator; more than 1 pays on a GPU

    rate: Annotated[float, Field(gt=0)] = 10.0  # requests a second that may start jobs, of each key
    burst: Annotated[int, Field(ge=1)] = 200  # of them at once
    max_unfinished: Annotated[int, Field(ge=1)] = 1000  # jobs of one key
    max_streams: Annotated[int, Field(ge=1)] = 100  # of events that one key may have open
    max_cost_seconds: Annotated[float, Field(gt=0)] = 120.0  # of one core, estimated, that one request may take
    max_queue_seconds: Annotated[float, Field(gt=0)] = 3600.0  # estimated, until all that waits is done
    min_free_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20  # of the disk; below it nothing is accepted
    max_growth_bytes: Annotated[int, Field(gt=0)] = 2**30  # of a process's memory, after which it is replaced
    max_body: Annotated[int, Field(ge=1024)] = 64 * 1024  # bytes of one request
    wait_limit: Annotated[float, Field(ge=0)] = 120.0  # seconds that POST /generate waits for its job
    job_limit: Annotated[float, Field(gt=0)] = 600.0  # seconds after which a process that works on a job is stopped
    body_limit: Annotated[float, Field(gt=0)] = 20.0  # seconds in which a request must arrive
    drain_seconds: Annotated[float, Field(ge=0)] = 30.0  # that running jobs have when the server stops

    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_lines: Literal["json", "text"] = "text"
    log_prompts: bool = False  # their text; otherwise a hash

    artifacts: str | None = None  # where finished files are kept: a folder or an fsspec URL; None: data/artifacts
    keep_days: Annotated[float, Field(gt=0)] = 7.0  # of finished jobs and their files
    keep_bytes: Annotated[int, Field(ge=0)] = 10 * 2**30  # of finished files; the longest unused go first
    keep_field_bytes: Annotated[int, Field(ge=0)] = 2 * 2**30  # of fields, from which exports are made
    sweep_seconds: Annotated[float, Field(gt=0)] = 60.0  # between two looks at what is too old

    @property
    def artifacts_url(self) -> str:
        """Where finished files are kept."""
        return self.artifacts or str((self.data / "artifacts").absolute())
