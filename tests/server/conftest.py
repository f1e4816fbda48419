"""One server for all tests that leave it as it was."""

from collections.abc import Iterator

import httpx
import pytest

from tests.server.running import running


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory, only_loopback: None) -> Iterator[httpx.Client]:
    """A client of a server that makes balls."""
    with running(tmp_path_factory.mktemp("served")) as client:
        yield client


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of asynchronous tests."""
    return "asyncio"
