"""Servers that many tests use."""

from collections.abc import Iterator

import httpx
import pytest

from tests.server.running import running
from tests.server.served import Served, served


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory, only_loopback: None) -> Iterator[httpx.Client]:
    """A client of a server that makes balls."""
    with running(tmp_path_factory.mktemp("served")) as client:
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("jobs")) as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of asynchronous tests."""
    return "asyncio"
