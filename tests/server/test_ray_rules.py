"""What keeps a server away from Ray: each time one line with the remedy, and no process is started."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scaledreamer.errors import ConfigError
from scaledreamer.server.ray_rules import check_cluster, check_dashboard, check_ray


def install(monkeypatch: pytest.MonkeyPatch, version: str | None, mode: str | None = "token") -> None:
    """A Ray that is only a version, or none."""
    ray = ModuleType("ray") if version else None
    if ray is not None:
        ray.__version__, ray.serve = version, ModuleType("ray.serve")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", ray and ray.serve)
    if mode is None:
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    else:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)


@pytest.mark.parametrize(
    ("version", "mode", "remedy"),
    [
        (None, "token", "pip install 'scaledreamer[ray]'"),
        ("2.53.0", "token", "Ray 2.53.0 lets web pages delete jobs; pip install -U"),
        ("2.60.0", None, "set RAY_AUTH_MODE=token"),
        ("2.60.0", "disabled", "ray get-auth-token --generate"),
    ],
)
def test_a_ray_that_is_missing_old_or_open_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str | None, mode: str | None, remedy: str
) -> None:
    install(monkeypatch, version, mode)
    with pytest.raises(ConfigError) as refused:
        check_ray()
    assert remedy in str(refused.value)


@pytest.mark.parametrize("version", ["2.54.0", "2.60.0", "3.0.0rc1"])
def test_a_ray_with_tokens_is_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    install(monkeypatch, version)
    check_ray()


@pytest.mark.parametrize("url", [None, "", "127.0.0.1:8265", "localhost:8265", "[::1]:8265"])
def test_a_dashboard_that_stays_here_is_taken(url: str | None) -> None:
    check_dashboard(url)


@pytest.mark.parametrize("url", ["0.0.0.0:8265", "192.0.2.7:8265", "head.example:8265"])
def test_a_dashboard_that_others_reach_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--dashboard-host=127"):
        check_dashboard(url)


@pytest.mark.parametrize(
    ("address", "detail"), [("ray://127.0.0.1:10001", "give host:port"), ("127.0.0.1:9", "no Ray cluster at")]
)
def test_an_address_without_a_cluster_is_refused_at_once(address: str, detail: str) -> None:
    pytest.importorskip("ray", exc_type=ImportError)
    with pytest.raises(ConfigError, match=detail):
        check_cluster(address)


def test_serve_says_it_in_one_line(tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["ray"] = None
from scaledreamer.server.main import serve
from scaledreamer.server.settings import Settings
sys.exit(serve(Settings(data={str(tmp_path)!r}, port=0, executor="ray")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("scaledreamer: the executor 'ray' needs Ray Serve") and done.stderr.count("\n") == 1
