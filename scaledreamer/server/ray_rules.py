"""Which Ray is let near: whoever reaches a Ray cluster runs code on it, so one that is open is refused."""

import os
import re
from urllib.parse import urlsplit

from scaledreamer.errors import ConfigError
from scaledreamer.server.auth import is_loopback

OLDEST = (2, 54)  # before it any web page could delete a cluster's jobs (CVE-2026-27482)
TOKEN = (
    "set RAY_AUTH_MODE=token for every `ray start` and for this server, and give all of them one token: "
    "`ray get-auth-token --generate` writes ~/.ray/auth_token"
)


def check_ray() -> None:
    """Raise ConfigError, with the remedy, where Ray is missing, too old, or told to do without a token."""
    try:
        import ray
        import ray.serve
    except ImportError as error:
        raise ConfigError(f"the executor 'ray' needs Ray Serve ({error}): pip install 'scaledreamer[ray]'") from error
    if tuple(int(number) for number in re.findall(r"\d+", ray.__version__)[:2]) < OLDEST:
        raise ConfigError(f"Ray {ray.__version__} lets web pages delete jobs; pip install -U 'scaledreamer[ray]'")
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise ConfigError(f"without token authentication Ray runs the code of whoever reaches it; {TOKEN}")


def check_cluster(address: str) -> None:
    """Raise ConfigError for a cluster that is not there, or that lets in who shows no token. Takes milliseconds."""
    import grpc
    from ray.core.generated import gcs_service_pb2 as messages
    from ray.core.generated import gcs_service_pb2_grpc as services

    if not re.fullmatch(r"[^/]+:\d+", address):
        raise ConfigError(f"RAY_ADDRESS is {address!r}; give host:port of the head, on a machine of the cluster")
    if os.environ.get("RAY_USE_TLS") == "1":
        return  # who has no certificate is not even heard
    with grpc.insecure_channel(address) as channel:
        try:
            services.NodeInfoGcsServiceStub(channel).CheckAlive(messages.CheckAliveRequest(), timeout=10)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return
            detail = "start one with `ray start --head`, or unset RAY_ADDRESS for one on this machine alone"
            raise ConfigError(f"no Ray cluster at {address} ({error.code().name.lower()}); {detail}") from error
    raise ConfigError(f"the Ray cluster at {address} lets in who shows no token; {TOKEN}")


def check_dashboard(url: str | None) -> None:
    """Raise ConfigError for a dashboard that other machines reach: it runs jobs."""
    host = urlsplit(f"//{url}").hostname if url else None
    if host is not None and not is_loopback(host):
        raise ConfigError(
            f"the Ray dashboard listens at {url}; start the head with --dashboard-host=127.0.0.1, or with "
            "--include-dashboard=false"
        )
