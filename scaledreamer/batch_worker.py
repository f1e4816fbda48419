"""A process of a batch: rows come in as lines, results go out as lines; it ends when its input does."""

import errno
import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaledreamer.batch import Row, failure
from scaledreamer.errors import ScaleDreamerError
from scaledreamer.export.package import extras_of, write_package
from scaledreamer.export.presets import asset_settings
from scaledreamer.files import atomic_path
from scaledreamer.pipeline import TextTo3D


def main() -> None:
    """Read rows until there are no more."""
    given = json.loads(sys.argv[1])
    out = Path(given["out"])
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing that a library prints may be taken for a result
    pipe = TextTo3D.load(given["model"], given["text_encoder"], given["device"])
    for line in sys.stdin:
        row = Row.model_validate_json(line)
        try:
            result = make(pipe, row, out)
        except ScaleDreamerError as error:
            result = failure(row, str(error))
        except OSError as error:
            result = failure(row, f"cannot write to {out}: {error.strerror or error}")
            result["fatal"] = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        print(json.dumps(result), file=answers, flush=True)


def make(pipe: TextTo3D, row: Row, out: Path) -> dict[str, Any]:
    """Make one asset; its folder appears in one rename."""
    asset = pipe.asset(row.prompt, asset_settings(**row.settings), row.seed)
    partial, final = out / f".{row.name}.{os.getpid()}.partial", out / row.name
    try:
        manifest = write_package(asset, partial, row.formats, extras_of(asset, pipe.card.get("licence")))
        report = asset.report
        result = {
            "row": row.number, "name": row.name, "prompt": row.prompt, "status": "made", "folder": row.name,
            "model": report.model, "triangles": report.levels[0].facts.faces, "extent_m": report.size.extent_m,
            "files": [{"name": file.name, "sha256": file.sha256} for file in manifest.files],
            "degraded": report.degraded, "warnings": report.warnings,
        }  # fmt: skip
        with atomic_path(partial / "request.json") as path:
            path.write_text(json.dumps({"request": row.model_dump(mode="json"), "result": result}, indent=1) + "\n")
        with suppress(FileExistsError, NotADirectoryError):  # an orphan of a killed run was first, with the same bytes
            rename_new(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {**result, "timings": asset.seconds}


def rename_new(source: Path, target: Path) -> None:
    """Rename a folder; FileExistsError where there is one already."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(f"{target} exists") from error
        raise


if __name__ == "__main__":
    main()
