"""The command line in this process: the same exit codes as in a new one, without waiting for torch again."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from scaledreamer.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def scaledreamer(*arguments: object) -> Ended:
    """Run `scaledreamer ARGUMENTS...`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    words = ["scaledreamer", *map(str, arguments)]
    with patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())
