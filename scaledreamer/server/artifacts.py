"""Where finished files are kept: a folder, or any URL that fsspec reads (s3://, gs://, …).

Files lie under the key of their work. The database says which keys are whole (docs/adr/0003), so nothing here needs to
be atomic on stores that cannot rename; a local folder is moved into place all the same.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

CHUNK = 1 << 20  # bytes read at once


class Artifacts:
    """Folders by key."""

    def __init__(self, url: str) -> None:
        self.files, self.root = fsspec.core.url_to_fs(url)
        self.local = isinstance(self.files, LocalFileSystem)
        self.files.makedirs(self.root, exist_ok=True)

    def put(self, key: str, folder: Path) -> None:
        """Move the files of a folder to their place, all or none; what lay there is replaced."""
        target = self._place(key)
        self.delete(key)
        if self.local:
            try:
                folder.rename(target)
                return
            except OSError as error:
                if error.errno != errno.EXDEV:  # another disk
                    raise
        try:
            if self.local:
                Path(target).mkdir()
            for path in sorted(folder.iterdir()):
                self.files.put_file(str(path), f"{target}/{path.name}")
        except BaseException:
            self.delete(key)
            raise
        shutil.rmtree(folder, ignore_errors=True)

    def path(self, key: str, name: str) -> Path | None:
        """The file on this machine; None where the store is elsewhere."""
        return Path(self._place(key)) / name if self.local else None

    def read(self, key: str, name: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a file from `start` to before `stop`. Raises FileNotFoundError."""
        with self.files.open(f"{self._place(key)}/{name}", "rb") as file:
            file.seek(start)
            while start < stop and (piece := file.read(min(CHUNK, stop - start))):
                start += len(piece)
                yield piece

    def delete(self, key: str) -> None:
        """Remove a folder, if it is there."""
        with suppress(FileNotFoundError):
            self.files.rm(self._place(key), recursive=True)

    def keys(self) -> list[str]:
        """Every folder that is there."""
        return [path.rstrip("/").rpartition("/")[2] for path in self.files.ls(self.root, detail=False)]

    def _place(self, key: str) -> str:
        return f"{self.root}/{key}"
