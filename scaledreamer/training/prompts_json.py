"""JSON read from the front, a token at a time: enough for an object whose values are lists of strings."""

import json
import re
from collections.abc import Iterator
from io import TextIOWrapper

from scaledreamer.errors import PromptError
from scaledreamer.prompt import MAX_CHARACTERS

LONGEST = 12 * MAX_CHARACTERS + 2  # characters of the longest prompt in JSON: quotes, and surrogate pairs all escaped
CHUNK = 1 << 16  # characters read at once, more than LONGEST
SPACE = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()


class JsonText:
    """A file's text, of which a chunk or two are in memory; faults are PromptErrors that name the line."""

    def __init__(self, file: TextIOWrapper) -> None:
        self.file, self.ended = file, False
        self.text, self.place = "", 0
        self.passed = 0  # line ends before `text`

    @property
    def line(self) -> int:
        """The line of the next token, from 1."""
        return 1 + self.passed + self.text.count("\n", 0, self.place)

    def peek(self) -> str:
        """The next character that is no space, "" at the end; a whole string behind it is in memory then."""
        while True:
            space = SPACE.match(self.text, self.place)
            assert space is not None  # it matches nothing at all as well
            self.place = space.end()
            if self.ended or len(self.text) - self.place >= LONGEST:
                return self.text[self.place : self.place + 1]
            self._read()

    def _read(self) -> None:
        self.passed = self.line - 1
        try:
            chunk = self.file.read(CHUNK)
        except UnicodeDecodeError as error:
            raise PromptError(f"line {self.line} or soon after: no UTF-8 ({error.reason})") from error
        self.text, self.place, self.ended = self.text[self.place :] + chunk, 0, not chunk

    def take(self, *expected: str) -> str:
        """The next character, which must be one of `expected`."""
        found = self.peek()
        if found not in expected:
            met = repr(found) if found else "the end of the file"
            raise PromptError(f"line {self.line}: found {met} in place of {' or '.join(map(repr, expected))}")
        self.place += 1
        return found

    def string(self) -> str:
        """The next string."""
        self.take('"')
        try:
            value, self.place = DECODER.raw_decode(self.text, self.place - 1)
        except json.JSONDecodeError as error:
            endless = error.msg.startswith("Unterminated") and not self.ended
            reason = f"a string of more than {MAX_CHARACTERS} characters" if endless else error.msg
            raise PromptError(f"line {self.line}: {reason}") from error
        assert isinstance(value, str)
        return value

    def strings(self, close: str) -> Iterator[str]:
        """The strings between commas up to `close`: a list's, or an object's keys if the caller takes their values."""
        if self.peek() == close:
            self.take(close)
            return
        while True:
            yield self.string()
            if self.take(",", close) == close:
                return

    def end(self) -> None:
        """Nothing may follow."""
        if found := self.peek():
            raise PromptError(f"line {self.line}: found {found!r} after the end of the object")
