"""What an operator sees of an accelerator: what runs each part, and why where it is not what was asked for."""

from pathlib import Path

import pytest

from scaledreamer.model.compile import AcceleratorWarning, missing, warn_once
from scaledreamer.server.generating import FieldTask, Generating, Load, Loaded
from tests.server.running import finished, running

BROKEN = "raise Exception('libnvinfer.so.10: cannot open shared object file')"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch_tensorrt on the path that cannot be imported."""
    package = tmp_path / "site" / "torch_tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(package.parent)
    missing.cache_clear()
    warn_once.cache_clear()


def test_a_server_with_a_broken_package_works_and_says_so(broken: None, tmp_path: Path) -> None:
    with running(tmp_path / "data", real=True, accelerator="tensorrt") as client:
        shown = client.get("/health/ready").json()["accelerators"]
        assert shown.keys() == {"text encoder", "generator"}
        for said in shown.values():
            assert said.startswith("eager (tensorrt is not used: torch_tensorrt is installed and cannot be imported")
        assert client.get("/v1/models").json()["models"][0]["accelerators"] == shown
        job = client.post("/v1/jobs", json={"prompt": "a red barrel", "preset": "raw", "resolution": 32}).json()
        assert finished(client, job["links"]["self"])["status"] == "succeeded"


def test_a_part_that_falls_back_later_is_told(tmp_path: Path) -> None:
    handler = Generating(None, None, "cpu")
    heard: list[object] = []
    assert handler(Load(), heard.append) == Loaded({"text encoder": "eager", "generator": "eager"})
    task = FieldTask(tmp_path / "field.safetensors", "a red barrel")
    handler([task], heard.append)
    assert heard == []
    handler.pipe.acceleration[1].asked = "compile"
    with pytest.warns(AcceleratorWarning, match="compile is not used"):
        handler.pipe.acceleration[1].fall_back("it broke")
    for _ in range(2):
        handler([task], heard.append)
    assert heard == [Loaded({"text encoder": "eager", "generator": "eager (compile is not used: it broke)"})], "once"
