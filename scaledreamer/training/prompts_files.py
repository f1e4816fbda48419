"""Prompt files read as streams: plain text, JSON lines, and the official prompt libraries.

Memory does not grow with the file, whatever is in it; a fault names the file, the line, and what was expected.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, Literal

from scaledreamer.errors import ConfigError, PromptError
from scaledreamer.prompt import MAX_CHARACTERS, check_prompt
from scaledreamer.training.prompts_json import JsonText

Split = Literal["train", "val", "test"]

LINE_BYTES = 4 * MAX_CHARACTERS + 256  # the longest prompt in UTF-8, and some space around it
OBJECT_BYTES = 1 << 20  # an object may hold more than its prompt
A_LINE = "one prompt a line, in UTF-8"
AN_OBJECT = 'one JSON object a line, for example {"prompt": "a red wooden barrel"}'
A_LIBRARY = '{"train": [...], "val": [...], "test": [...]}, lists of strings'


def read_lines(path: Path) -> Iterator[str]:
    """One prompt a line; blank lines are passed over."""
    for number, line in lines(path, LINE_BYTES, A_LINE):
        with at(path, number, A_LINE):
            prompt = check_prompt(line.decode())
        yield prompt


def read_json_lines(path: Path) -> Iterator[str]:
    """The "prompt" of one JSON object a line; blank lines and other keys are passed over."""
    for number, line in lines(path, OBJECT_BYTES, AN_OBJECT):
        with at(path, number, AN_OBJECT):
            value = json.loads(line)
            if not isinstance(value, dict) or "prompt" not in value:
                raise PromptError('there is no "prompt"')
            prompt = check_prompt(value["prompt"])
        yield prompt


def read_json_split(path: Path, split: Split) -> Iterator[str]:
    """One split of a prompt library; the other splits are read over, and may be missing."""
    with opened(path) as file, at(path, None, A_LIBRARY):
        text = JsonText(TextIOWrapper(file, "utf-8-sig", newline=""))
        found: list[str] = []
        text.take("{")
        for key in text.strings("}"):
            if key in found:
                raise PromptError(f"line {text.line}: the key {key!r} is there twice")
            found.append(key)
            text.take(":")
            text.take("[")
            for prompt in text.strings("]"):
                if key == split:
                    try:
                        checked = check_prompt(prompt)
                    except PromptError as error:
                        raise PromptError(f"line {text.line}: {error}") from error
                    yield checked
        text.end()
        if split not in found:
            raise PromptError(f"there is no split {split!r} among {found}")


def lines(path: Path, longest: int, expected: str) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank; a line of more than `longest` bytes is refused before it is read."""
    with opened(path) as file:
        number = 0
        while line := file.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise ConfigError(f"{path}, line {number}: longer than {longest} bytes; expected {expected}")
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line  # the mark that some editors write
            if line.strip():
                yield number, line


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read, or one clear error."""
    if not path.is_file():
        raise ConfigError(f"corpus.path: no file at {path}; give the path of a prompt file")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigError(f"corpus.path: cannot read {path} ({error.strerror}); check its permissions") from error
    with file:
        yield file


@contextmanager
def at(path: Path, line: int | None, expected: str) -> Iterator[None]:
    """What is wrong inside becomes one error with the place (a line of None: the fault knows its own)."""
    try:
        yield
    except (ValueError, RecursionError) as error:  # prompts, JSON and UTF-8 alike; RecursionError: brackets without end
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        place = f"{path}, line {line}" if line is not None else f"{path}"
        raise ConfigError(f"{place}: {reason}; expected {expected}") from error
