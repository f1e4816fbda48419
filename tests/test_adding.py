"""The pages docs/adding-*.md, followed to the letter in a copy of the package: the edits, the commands, the checks."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "prior": ("prior", "color"),
    "generator": ("generator", "text-grid"),
    "loss": ("distill.loss", "nfsd"),
}  # page: (setting, kind) of what it adds
LIMIT = 60  # added lines, new files and edits together
TRIPLANE = ["generator.width=24", "generator.heads=2", "generator.layers=1", "generator.low_res=2"]
TRIPLANE += ["generator.upsample=[8]", "generator.plane_channels=8"]
SMALL = ["distill.corpus={kind: list, prompts: [a red mug, a blue hat]}", "distill.prompts=2", "distill.pixels=8"]
SMALL += ["distill.nodes=12", "distill.renderer.samples=8"]
# Follows a page in one process, because each would wait for torch again. What the page wrote has its shapes checked.
DRIVER = """
import io, json, sys
from contextlib import redirect_stdout
from pathlib import Path

from jaxtyping import install_import_hook
from tests import runtime_types

modules, commands, check, page = json.loads(sys.stdin.read())
install_import_hook(modules, f"{runtime_types.__name__}.check")
import torch
from scaledreamer.training.cli import main

torch.set_num_threads(1)
assert Path(sys.modules["scaledreamer"].__file__).is_relative_to(Path.cwd()), "the copy, not the clone"
facts = []
for sys.argv in commands:
    said = io.StringIO()
    with redirect_stdout(said):
        try:
            main()
        except SystemExit as end:
            assert not end.code, (sys.argv, end.code)
    facts.append(json.loads(said.getvalue()))
exec(compile(check, page, "exec"), {"__name__": "check"})
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int  # of its first line, counted from 1
    info: str
    lines: list[str]

    @property
    def added(self) -> int:
        if " new=" in self.info:
            return len(self.lines)
        return sum(line.startswith("+") for line in self.lines) if self.info.startswith("diff ") else 0

    def place(self, index: int = 0) -> str:
        return f"{self.page}:{self.line + index}"


def page_path(name: str) -> Path:
    return ROOT / "docs" / f"adding-a-{name}.md"


def blocks_of(page: str, text: str) -> Iterator[Block]:
    inside: Block | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if inside is None and line.startswith("```"):
            inside = Block(page, number + 1, line[3:], [])
        elif inside is not None and line == "```":
            yield inside
            inside = None
        elif inside is not None:
            inside.lines.append(line)
    assert inside is None, f"{page}: the block of line {inside.line} does not end" if inside else ""


def page_blocks(name: str) -> list[Block]:
    path = page_path(name)
    return list(blocks_of(str(path.relative_to(ROOT)), path.read_text()))


def apply(block: Block, folder: Path) -> Path | None:
    """Write the block's file, or make its edit; a block of another kind does nothing."""
    if " new=" in block.info:
        path = folder / block.info.split(" new=")[1]
        assert not path.exists(), f"{block.place()}: {path.relative_to(folder)} is there already"
        path.write_text("\n".join(block.lines) + "\n")
        return path
    if not block.info.startswith("diff "):
        return None
    path = folder / block.info.removeprefix("diff ")
    assert path.is_file(), f"{block.place(-1)}: {path.relative_to(folder)} is no file"
    assert {line[:1] for line in block.lines} <= {"", " ", "+", "-"}, f"{block.place()}: a line is no line of a diff"
    was = [(index, line[1:]) for index, line in enumerate(block.lines) if not line.startswith("+")]
    now = [line[1:] for line in block.lines if not line.startswith("-")]
    lines = path.read_text().splitlines()
    for index, line in was:
        assert line in lines, f"{block.place(index)}: {path.relative_to(folder)} has no line {line!r}"
    old = [line for _, line in was]
    starts = [at for at in range(len(lines) - len(old) + 1) if lines[at : at + len(old)] == old]
    assert len(starts) == 1, f"{block.place()}: found {len(starts)} times in {path.relative_to(folder)}"
    lines[starts[0] : starts[0] + len(old)] = now
    path.write_text("\n".join(lines) + "\n")
    return path


def copy_package(folder: Path) -> None:
    """The package without the clone's leftovers; its weights are linked."""
    package = ROOT / "scaledreamer"
    shutil.copytree(package, folder / "scaledreamer", ignore=shutil.ignore_patterns("weights", "*.pyc.*"))
    (folder / "scaledreamer" / "weights").symlink_to(package / "weights")
    shutil.copy(ROOT / "pyproject.toml", folder)


def commands_of(blocks: list[Block]) -> list[list[str]]:
    """The page's commands, each as a dry run of a small size."""
    commands = []
    for line in (line for block in blocks if block.info == "sh" for line in block.lines):
        words = [word for word in shlex.split(line, comments=True) if word != "--dry-run"]
        assert words[0] == "scaledreamer-train", f"{blocks[0].page}: {line!r} is not tried; teach this test"
        sizes = ["loop.accumulate=1"]
        if needs_nothing(words):
            sizes = SMALL if words[1] == "props-text-grid" else SMALL + TRIPLANE
        commands.append([*words, *(part for size in sizes for part in ("--set", size)), "--dry-run"])
    return commands


def needs_nothing(command: list[str]) -> bool:
    """Whether what the preset needs is in the package; the others wait for diffusers and stand-ins."""
    return command[1].startswith("props")


@dataclass(frozen=True)
class Followed:
    """A copy of the package with a page's edits."""

    name: str
    blocks: list[Block]
    folder: Path
    touched: list[Path]

    @property
    def check(self) -> Block:
        (check,) = (block for block in self.blocks if block.info == "python check")
        return check

    def run(self, commands: list[list[str]], check: list[str]) -> list[dict[str, Any]]:
        """What each command printed, in a process that imports the copy; then the check, at its line of the page."""
        code = "\n" * (self.check.line - 1) + "\n".join(check)
        relative = [path.relative_to(self.folder) for path in self.touched if path.suffix == ".py"]
        modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in relative]
        (self.folder / "driver.py").write_text(DRIVER)
        result = subprocess.run(
            [sys.executable, "driver.py"],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}"},
            input=json.dumps([modules, commands, code, self.check.page]),
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        facts: list[dict[str, Any]] = json.loads(result.stdout.splitlines()[-1])
        return facts

    def dry_run(self, commands: list[list[str]], check: list[str]) -> None:
        """Every command builds what the page adds, and its two steps have a gradient."""
        setting, kind = PAGES[self.name]
        for facts in self.run(commands, check):
            group = facts["config"]
            for key in setting.split("."):
                group = group[key]
            assert group["kind"] == kind
            assert [step["grad_norm"] > 0 for step in facts["first_steps"]] == [True, True]


@pytest.fixture(scope="module", params=list(PAGES))
def followed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    folder, blocks = tmp_path_factory.mktemp(request.param), page_blocks(request.param)
    copy_package(folder)
    touched = list(dict.fromkeys(path for block in blocks if (path := apply(block, folder))))
    return Followed(request.param, blocks, folder, touched)


def test_an_addition_takes_under_60_lines_as_its_page_says(followed: Followed) -> None:
    added = sum(block.added for block in followed.blocks)
    assert 0 < added < LIMIT
    said = re.findall(r"in (\d+)\slines", page_path(followed.name).read_text())
    assert said == [str(added)]


def test_the_commands_of_a_page_run_and_its_check_holds(followed: Followed) -> None:
    commands = [command for command in commands_of(followed.blocks) if needs_nothing(command)]
    assert commands
    followed.dry_run(commands, followed.check.lines)


@pytest.mark.slow
@pytest.mark.parametrize("followed", ["generator", "loss"], indirect=True)
def test_the_commands_with_other_priors_run_on_stand_ins(followed: Followed) -> None:
    commands = [command for command in commands_of(followed.blocks) if not needs_nothing(command)]
    assert commands
    followed.dry_run(commands, check=[])


def test_what_a_page_adds_is_in_the_house_s_format(followed: Followed) -> None:
    check = followed.folder / "tests" / "check.py"
    check.parent.mkdir(exist_ok=True)
    check.write_text("\n".join(['"""The check of a page."""', "", *followed.check.lines, ""]))
    paths = [*(path for path in followed.touched if path.suffix == ".py"), check]
    for command in (["format", "--diff"], ["check", "--no-cache"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *paths], cwd=followed.folder, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_linked_and_link_to_what_is_there(name: str) -> None:
    path = page_path(name)
    assert f"docs/{path.name}" in (ROOT / "README.md").read_text()
    assert f"]({path.name})" in (ROOT / "docs" / "training.md").read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert links and [link for link in links if not (path.parent / link).exists()] == []


def test_a_block_that_fits_no_longer_fails_with_its_page_and_line(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text("a = 1\nb = 2\na = 1\n")

    def edit(*lines: str) -> None:
        (block,) = blocks_of("page.md", "\n".join(["Text.", "", "```diff code.py", *lines, "```"]))
        apply(block, tmp_path)

    with pytest.raises(AssertionError, match=r"page\.md:5: code\.py has no line 'c = 3'"):
        edit(" b = 2", "-c = 3", "+c = 4")
    with pytest.raises(AssertionError, match=r"page\.md:4: found 2 times in code\.py"):
        edit("-a = 1", "+a = 0")
    with pytest.raises(AssertionError, match=r"page\.md:4: found 0 times in code\.py"):
        edit(" b = 2", " b = 2", "+c = 3")
    with pytest.raises(AssertionError, match=r"page\.md:4: a line is no line of a diff"):
        edit("b = 2", "+c = 3")
    assert path.read_text() == "a = 1\nb = 2\na = 1\n"
    edit(" b = 2", "-a = 1", "+a = 3", "+c = 4")
    assert path.read_text() == "a = 1\nb = 2\na = 3\nc = 4\n"


@pytest.mark.slow
def test_mypy_accepts_all_three_additions_together(tmp_path: Path) -> None:
    copy_package(tmp_path)
    for name in PAGES:
        for block in page_blocks(name):
            apply(block, tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "-p", "scaledreamer"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
