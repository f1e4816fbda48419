"""A typed client of the HTTP API, blocking and asynchronous. Needs the extra `client`; loads no torch.

with Client("http://localhost:8000", key="sdk_…") as client:
    job = client.generate("a red wooden barrel", preset="mobile")
    client.download(job, "barrel")
"""

from importlib.util import find_spec

if find_spec("httpx") is None:
    raise ImportError("scaledreamer.client needs httpx: pip install 'scaledreamer[client]'")

from scaledreamer.client.asynchronous import AsyncClient
from scaledreamer.client.blocking import Client
from scaledreamer.client.values import Event, File, Job, Model, ServerError

__all__ = ["AsyncClient", "Client", "Event", "File", "Job", "Model", "ServerError"]
