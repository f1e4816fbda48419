"""From a list of prompts to one zip that a game loads: a batch, a check of every manifest, an index.

python examples/asset_pack.py prompts.txt -o pack.zip [--preset mobile] [--jobs 2]
"""

import argparse
import hashlib
import json
import sys
import tempfile
import zipfile
from pathlib import Path

from scaledreamer.batch import Worker, read_rows, run_batch
from scaledreamer.export.report import Manifest


def checked(folder: Path) -> Manifest:
    """The manifest of an asset, every file of which is there and has its sha256."""
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    for file in manifest.files:
        if hashlib.sha256((folder / file.name).read_bytes()).hexdigest() != file.sha256:
            raise SystemExit(f"{folder / file.name} is not what its manifest says")
    return manifest


def main() -> None:
    """Make the pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompts", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("pack.zip"))
    parser.add_argument("--preset", default="mobile")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    rows = read_rows(options.prompts, {"preset": options.preset}, (".glb",))
    with tempfile.TemporaryDirectory() as name:
        assets = Path(name)
        summary = run_batch(rows, Worker(assets, None, None, "cpu"), options.jobs, lambda done, summary: None)
        for line in summary.failed:
            print(f"failed: {line}", file=sys.stderr)
        index = []
        with zipfile.ZipFile(options.out, "w", zipfile.ZIP_STORED) as pack:  # textures are compressed already
            for folder in sorted(path.parent for path in assets.glob("*/manifest.json")):
                manifest = checked(folder)
                index.append({"name": manifest.name, "prompt": manifest.prompt, "extent_m": manifest.extent_m})
                for file in manifest.files:
                    pack.write(folder / file.name, f"{manifest.name}/{file.name}")
            pack.writestr("index.json", json.dumps(index, indent=1))
    print(f"{options.out}: {len(index)} assets")
    raise SystemExit(1 if summary.failed else 0)


if __name__ == "__main__":
    main()
