"""What every test runs under: shapes checked at run time, one thread, no network but the loopback."""

import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

import pytest
import torch
from jaxtyping import install_import_hook

from tests import runtime_types

torch.set_num_threads(1)
install_import_hook(
    "scaledreamer", f"{runtime_types.__name__}.check"
)  # from here on an annotated shape is an assertion


@pytest.fixture(scope="session", autouse=True)
def only_loopback() -> Iterator[None]:
    """Refuse every connection and name look-up that would leave this machine."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse_outside(host: object) -> None:
        if not is_loopback(host):
            raise PermissionError(f"a test tried to reach {host!r}; tests run without a network")

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse_outside(address[0])
            return method(self, address)

        return call

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_outside(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        patch.setattr(socket, "getaddrinfo", look_up)
        yield


def is_loopback(host: object) -> bool:
    """Whether a host name or address stays on this machine (None and '' mean: any of its own)."""
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost", "0.0.0.0", "::"):
        return True
    try:
        return ip_address(str(host)).is_loopback
    except ValueError:  # a name
        return host == socket.gethostname()


@pytest.fixture
def rng() -> torch.Generator:
    """One seed, one generator."""
    return torch.Generator().manual_seed(0)
