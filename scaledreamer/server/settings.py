"""What an operator can set: flags of `scaledreamer serve`, or environment variables named SCALEDREAMER_<SETTING>."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """A frozen value; an unknown setting is an error."""

    model_config = SettingsConfigDict(env_prefix="SCALEDREAMER_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000  # 0 takes a free one
    data: Path = Path("data")  # files live in data/jobs/<id>/
    allowed_hosts: tuple[str, ...] = ()  # names besides localhost and the bind address; "*" takes any
    allowed_origins: tuple[str, ...] = ()  # pages of other sites that may POST, such as "https://studio.example"

    model: str | None = None  # a name or a path; None is the bundled model
    text_encoder: str | None = None  # a Stable Diffusion folder, for models that read prompts with CLIP
    device: str = "cpu"
    workers: Annotated[int, Field(ge=1, le=64)] = 1  # processes; each holds the model once
    threads: Annotated[int, Field(ge=1, le=256)] = 1  # of one worker

    max_queued: Annotated[int, Field(ge=1)] = 64  # jobs that wait; the next one is answered 503
    max_body: Annotated[int, Field(ge=1024)] = 64 * 1024  # bytes of one request
    wait_limit: Annotated[float, Field(ge=0)] = 120.0  # seconds that POST /generate waits for its job
    job_limit: Annotated[float, Field(gt=0)] = 600.0  # seconds after which a running job is stopped
    body_limit: Annotated[float, Field(gt=0)] = 20.0  # seconds in which a request must arrive

    keep_jobs: Annotated[int, Field(ge=1)] = 1000  # finished jobs whose files stay
    keep_days: Annotated[float, Field(gt=0)] = 7.0

    @property
    def model_id(self) -> str:
        """The name of the model before it has been loaded."""
        return "props" if self.model is None else Path(self.model).stem
