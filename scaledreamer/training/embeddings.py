"""Text embeddings computed once: an encoder that remembers, in RAM or in a folder."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from scaledreamer.errors import ModelFileError
from scaledreamer.model import checkpoint
from scaledreamer.model.shelf import read_header
from scaledreamer.model.text import TextEmbedding, TextEncoder, concatenate

BATCH = 128
SHARD = 512  # prompts a file; what a kill can cost
DIGEST = 16  # bytes of a prompt's hash: among a million prompts two are the same with probability 1e-27
ENCODER, INDEX = "encoder.safetensors", "index.safetensors"
PROBES = ["", "a red wooden barrel", "two blue mugs beside a tall stone house, at night"]
SAME = 0.02  # relative difference that fp16, another device or another thread count explain; another model is far off


class RememberingEncoder(TextEncoder):
    """Another encoder's embeddings in fp16. A prompt is encoded when it is first met and by itself, for what it becomes
    must not depend on what came before: a run that was stopped goes on with the same numbers.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.known: dict[str, dict[str, Tensor]] = {}  # columns of one row

    @property
    def name(self) -> str:
        return self.encoder.name

    def overflow(self, prompt: str) -> int:
        return self.encoder.overflow(prompt)

    def encode(self, prompts: list[str]) -> TextEmbedding:
        for prompt in prompts:
            if prompt not in self.known:
                self.known[prompt] = half_rows(self.encoder.encode([prompt]))
        rows = [self.known[prompt] for prompt in prompts]
        tokens, pooled, mask = (torch.cat([row[column] for row in rows]) for column in ("tokens", "pooled", "mask"))
        return TextEmbedding(tokens.float(), pooled.float(), mask)


class EmbeddingStore(TextEncoder):
    """Another encoder's embeddings of a whole corpus in a folder, mapped into memory: RAM does not grow with it.

    A prompt's row is found in a sorted table of hashes; view-dependent prompts are rows like any other. A prompt that
    is not in the corpus is encoded when it is met, and remembered in RAM.

        encoder.safetensors     whose embeddings these are, and its answer to three probes
        shard-00000.safetensors 512 prompts: tokens [512, L, D] and pooled [512, E] in fp16, mask [512, L]
        index.safetensors       sorted hashes [N, 16] and their rows [N]; written last, so it marks a whole store
    """

    def __init__(self, folder: Path, encoder: TextEncoder) -> None:
        check_encoder(folder, encoder)
        header = read_header(folder / INDEX, "embedding-index")
        index = checkpoint.read_tensors(folder / INDEX)  # mapped: nothing is read yet
        self.digests = index["digests"].numpy().view(f"S{DIGEST}")[:, 0]
        self.rows = index["rows"].numpy()
        self.rows_a_shard: int = header["rows_a_shard"]
        self.shards: list[dict[str, Tensor]] = []
        for number in range(-(-len(self.rows) // self.rows_a_shard)):
            read_header(shard_path(folder, number), "embedding-shard")
            self.shards.append(checkpoint.read_tensors(shard_path(folder, number)))
        self.others = RememberingEncoder(encoder)

    @classmethod
    def build(
        cls, corpus: Iterable[str], encoder: TextEncoder, folder: Path, report: Callable[[int], None] | None = None
    ) -> Self:
        """Encode every distinct prompt once and open the result. Finished files of an interrupted build are kept.

        The corpus may be a stream; a hash a prompt is all that is kept of it. `report` hears how many rows are done. A
        second builder of the same folder waits for the first. Raises ModelFileError for a folder of another encoder or
        another corpus.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            for left in folder.glob(".*.partial"):  # what a kill leaves behind
                left.unlink()
            if not (folder / ENCODER).exists():
                probes = half_rows(encoder.encode(PROBES))
                checkpoint.write(folder / ENCODER, "embedding-encoder", probes, {"name": encoder.name})
            check_encoder(folder, encoder)
            digests = bytearray()
            for number, prompts in enumerate(shards_of(corpus)):
                known = b"".join(map(digest, prompts))
                write_shard(shard_path(folder, number), prompts, known, encoder)
                digests += known
                if report:
                    report(len(digests) // DIGEST)
            write_index(folder / INDEX, bytes(digests))
        return cls(folder, encoder)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        return self.others.name

    def overflow(self, prompt: str) -> int:
        return self.others.overflow(prompt)

    def row(self, prompt: str) -> int | None:
        """Where a prompt's embedding lies, None where it is not stored."""
        wanted = np.array(digest(prompt), dtype=self.digests.dtype)
        place = int(np.searchsorted(self.digests, wanted))
        found = place < len(self.digests) and self.digests[place] == wanted
        return int(self.rows[place]) if found else None

    def encode(self, prompts: list[str]) -> TextEmbedding:
        places = [self.row(prompt) for prompt in prompts]
        found = []
        for prompt, place in zip(prompts, places, strict=True):
            found.append(self.others.encode([prompt]) if place is None else self.read(place))
        return concatenate(found)

    def read(self, row: int) -> TextEmbedding:
        """One stored row."""
        shard, place = self.shards[row // self.rows_a_shard], row % self.rows_a_shard
        here = slice(place, place + 1)
        return TextEmbedding(shard["tokens"][here].float(), shard["pooled"][here].float(), shard["mask"][here].clone())


def open_embeddings(folder: Path | None, encoder: TextEncoder) -> TextEncoder:
    """The store in `folder`; where there is none yet (a dry run) or no folder, a table in RAM."""
    if folder is not None and (folder / INDEX).exists():
        return EmbeddingStore(folder, encoder)
    return RememberingEncoder(encoder)


def half_rows(text: TextEmbedding) -> dict[str, Tensor]:
    """The columns that are kept of an embedding: fp16, and a mask that says it where all tokens count."""
    mask = torch.ones(text.tokens.shape[:2], dtype=torch.bool) if text.mask is None else text.mask
    return {"tokens": text.tokens.half().cpu(), "pooled": text.pooled.half().cpu(), "mask": mask.cpu()}


def digest(prompt: str) -> bytes:
    """A prompt's hash, the key of the index."""
    return hashlib.blake2b(prompt.encode(), digest_size=DIGEST).digest()


def shards_of(corpus: Iterable[str]) -> Iterator[list[str]]:
    """The distinct prompts in order of first appearance, SHARD at a time."""
    seen: set[bytes] = set()

    def distinct() -> Iterator[str]:
        for prompt in corpus:
            if (known := digest(prompt)) not in seen:
                seen.add(known)
                yield prompt

    prompts = distinct()
    while some := list(islice(prompts, SHARD)):
        yield some


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:05d}.safetensors"


def write_shard(path: Path, prompts: list[str], digests: bytes, encoder: TextEncoder) -> None:
    """Encode and write a shard, unless it is there; one of other prompts is refused."""
    held = hashlib.sha256(digests).hexdigest()
    if path.exists():
        if read_header(path, "embedding-shard")["prompts"] != held:
            raise ModelFileError(f"{path} holds embeddings of other prompts; delete {path.parent} or choose another")
        return
    batches = [half_rows(encoder.encode(prompts[start : start + BATCH])) for start in range(0, len(prompts), BATCH)]
    columns = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    checkpoint.write(path, "embedding-shard", columns, {"prompts": held})


def write_index(path: Path, digests: bytes) -> None:
    """Write the sorted hashes with their rows, unless they are there."""
    held = hashlib.sha256(digests).hexdigest()
    if path.exists() and read_header(path, "embedding-index")["prompts"] == held:
        return
    if not digests:
        raise ModelFileError(f"no prompt to store in {path.parent}; give at least one")
    order = np.argsort(np.frombuffer(digests, f"S{DIGEST}"))
    by_row = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST)
    tensors = {"digests": torch.from_numpy(by_row[order]), "rows": torch.from_numpy(order.astype(np.int32))}
    checkpoint.write(path, "embedding-index", tensors, {"prompts": held, "rows_a_shard": SHARD})


def check_encoder(folder: Path, encoder: TextEncoder) -> None:
    """Refuse the store of another encoder: by its name, and by its answers, which any other weights would change."""
    path = folder / ENCODER
    name = read_header(path, "embedding-encoder")["name"]
    if name != encoder.name:
        raise ModelFileError(f"{folder} holds embeddings of {name!r}, not {encoder.name!r}; choose another folder")
    stored, own = checkpoint.read_tensors(path), half_rows(encoder.encode(PROBES))
    for column in ("tokens", "pooled"):
        known, found = stored[column].float(), own[column].float()
        same = known.shape == found.shape and bool((known - found).norm() <= SAME * known.norm())
        if not same or not torch.equal(stored["mask"], own["mask"]):
            raise ModelFileError(
                f"{folder} holds embeddings of another {name!r}: its {column} of {PROBES[1]!r} differ; "
                "use the encoder that built it, or choose another folder"
            )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One builder a folder at a time; the lock of a process that was killed is free."""
    with (folder / ".lock").open("w") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
