"""The wheel alone, in a venv outside the clone, without a network: it makes the very bytes that the clone makes."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "a red wooden barrel"
NO_NETWORK = """
import socket

def refuse(self, address):
    raise PermissionError(f"reached for {address!r}")

socket.socket.connect = socket.socket.connect_ex = refuse
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Installed:
    """A venv that holds the wheel, and sees the dependencies of the environment that the tests run in."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder)}))

    def run(self, *command: str | Path) -> str:
        return run(*without_network(), *command, cwd=self.folder)

    def generate(self, name: str) -> bytes:
        self.run(self.folder / "bin" / "scaledreamer", "generate", PROMPT, "-o", name)
        return (self.folder / name).read_bytes()


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; its standard error where it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=kept)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def without_network() -> list[str]:
    """A prefix that leaves a command no network device, where the system allows it; sitecustomize refuses elsewhere."""
    prefix = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
        return prefix
    return []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    venv = Installed(tmp_path_factory.mktemp("installed"))
    run(sys.executable, "-m", "venv", "--without-pip", venv.folder, cwd=venv.folder)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        venv.python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=venv.folder,
    )
    # A path in a .pth file is searched, but .pth files inside it are not read: the clone's editable install stays out.
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (venv.site_packages / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    (venv.site_packages / "sitecustomize.py").write_text(NO_NETWORK)
    return venv


@pytest.fixture(scope="module")
def from_clone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("clone") / "barrel.glb"
    run(Path(sys.executable).parent / "scaledreamer", "generate", PROMPT, "-o", out, cwd=ROOT)
    return out.read_bytes()


def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "scaledreamer").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.endswith(".partial")
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert held == ours
    for folder in ("model", "export", "training", "server"):
        assert f"scaledreamer/{folder}/__init__.py" in held
    assert "scaledreamer/py.typed" in held


def test_package_is_imported_from_the_wheel(installed: Installed) -> None:
    found = installed.run(installed.python, "-c", "import scaledreamer; print(scaledreamer.__file__)").strip()
    assert Path(found) == installed.site_packages / "scaledreamer" / "__init__.py"


def test_network_is_off_in_that_venv(installed: Installed) -> None:
    reach = (
        "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 2)\nexcept OSError as e: print('refused', e)"
    )
    assert installed.run(installed.python, "-c", reach).startswith("refused")


def test_wheel_makes_the_bytes_that_the_clone_makes(installed: Installed, from_clone: bytes) -> None:
    assert from_clone[:4] == b"glTF"
    assert installed.generate("first.glb") == from_clone
    assert installed.generate("second.glb") == from_clone


def test_serving_needs_no_training_code(installed: Installed, from_clone: bytes) -> None:
    kept, away = installed.site_packages / "scaledreamer" / "training", installed.folder / "training-put-away"
    kept.rename(away)
    try:
        assert installed.generate("without-training.glb") == from_clone
        assert installed.run(installed.folder / "bin" / "scaledreamer", "serve", "--help")
    finally:
        away.rename(kept)
