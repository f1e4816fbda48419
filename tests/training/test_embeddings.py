"""Embeddings that are computed once: the table in RAM and the store in a folder."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scaledreamer.errors import ModelFileError
from scaledreamer.model.generators.triplane_transformer import SeparateHeadsConfig, TriplaneTransformerConfig
from scaledreamer.model.text import MiniLM, TextEmbedding, TextEncoder
from scaledreamer.training import embeddings
from scaledreamer.training.embeddings import EmbeddingStore, RememberingEncoder, open_embeddings, shard_path
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.props import PropsPrior
from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig
from scaledreamer.training.step import DistillConfig, DistillTask

CORPUS = [f"prop number {n}, side view" for n in range(40)]


class Spelling(TextEncoder):
    """Tokens are the letters' codes over 128 and powers of them; counts what it encodes and may die on the way."""

    def __init__(self, name: str = "spelling", scale: float = 1.0, dies_after: int = 10**9) -> None:
        self._name, self.scale, self.dies_after = name, scale, dies_after
        self.met: list[str] = []

    @property
    def name(self) -> str:
        return self._name

    def overflow(self, prompt: str) -> int:
        return max(0, len(prompt) - 16)

    def encode(self, prompts: list[str]) -> TextEmbedding:
        self.met += prompts
        if len(self.met) > self.dies_after:
            raise KeyboardInterrupt
        codes = torch.zeros(len(prompts), 64)
        for row, prompt in zip(codes, prompts, strict=True):
            row[: len(prompt)] = torch.tensor([ord(letter) / 128 for letter in prompt[:64]])
        tokens = self.scale * torch.stack([codes, codes**2, codes**3], -1)
        return TextEmbedding(tokens, tokens.mean(1), codes > 0)


def same(a: TextEmbedding, b: TextEmbedding) -> bool:
    assert a.mask is not None and b.mask is not None
    close = torch.allclose(a.tokens, b.tokens, 1e-3, 1e-3) and torch.allclose(a.pooled, b.pooled, 1e-3, 1e-3)
    return close and torch.equal(a.mask, b.mask)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SHARD", 8)


def test_a_store_answers_as_its_encoder_does_without_asking_it(tmp_path: Path) -> None:
    EmbeddingStore.build(CORPUS, Spelling(), tmp_path)
    encoder = Spelling()
    store = EmbeddingStore(tmp_path, encoder)
    asked = len(encoder.met)  # the probes
    some = [CORPUS[n] for n in (39, 0, 7, 8, 0)]
    assert same(store.encode(some), Spelling().encode(some))
    assert len(encoder.met) == asked and store.name == "spelling" and store.overflow("x" * 17) == 1


def test_a_store_and_a_table_say_the_same_to_the_bit(tmp_path: Path) -> None:
    store, table = EmbeddingStore.build(CORPUS, Spelling(), tmp_path), RememberingEncoder(Spelling())
    ours, theirs = store.encode(CORPUS), table.encode(CORPUS)
    assert torch.equal(ours.tokens, theirs.tokens) and torch.equal(ours.pooled, theirs.pooled)
    assert ours.tokens.dtype == torch.float32 and shard_path(tmp_path, 4).exists() and len(store) == 40


def test_what_a_table_says_of_a_prompt_does_not_depend_on_the_company_it_was_met_in() -> None:
    """Or a run that was stopped and goes on, and so meets its prompts in another order, would get other numbers."""
    prompts = ["a red mug", "a very tall green wooden chair with a red seat", "a blue tree"]
    one, other = RememberingEncoder(MiniLM()), RememberingEncoder(MiniLM())
    together = one.encode(prompts)
    for prompt in prompts[::-1]:
        other.encode([prompt])
    apart = other.encode(prompts)
    assert torch.equal(together.tokens, apart.tokens) and torch.equal(together.pooled, apart.pooled)


def test_the_bundled_encoder_can_be_stored(tmp_path: Path) -> None:
    encoder = MiniLM()
    store = EmbeddingStore.build(["a red mug", "a blue tree"], encoder, tmp_path)
    assert same(store.encode(["a blue tree", "", "a red mug"]), encoder.encode(["a blue tree", "", "a red mug"]))


def test_each_distinct_prompt_is_encoded_and_stored_once_and_a_stream_will_do(tmp_path: Path) -> None:
    encoder = Spelling()
    store = EmbeddingStore.build((prompt for prompt in CORPUS + CORPUS[::-1] + CORPUS[:3]), encoder, tmp_path)
    assert len(store) == 40
    assert sorted(prompt for prompt in encoder.met if prompt not in embeddings.PROBES) == sorted(CORPUS)


def test_a_prompt_that_is_not_stored_is_encoded_once_and_kept_in_ram(tmp_path: Path) -> None:
    encoder = Spelling()
    store = EmbeddingStore.build(CORPUS, encoder, tmp_path)
    encoder.met.clear()
    for _ in range(2):
        mixed = ["news", CORPUS[3], "more news", "news"]
        assert same(store.encode(mixed), Spelling().encode(mixed))
    assert encoder.met == ["news", "more news"]
    assert store.row("news") is None and len(EmbeddingStore(tmp_path, encoder)) == 40


def test_every_prompt_of_thousands_is_found_whatever_bytes_its_hash_holds(tmp_path: Path) -> None:
    """Some hashes begin or end with a zero byte."""
    corpus = [str(n) for n in range(3000)]
    store = EmbeddingStore.build(corpus, Spelling(), tmp_path)
    assert [store.row(prompt) for prompt in corpus] == list(range(3000))
    hashes = [embeddings.digest(prompt) for prompt in corpus]
    assert any(known[-1] == 0 for known in hashes) and any(known[0] == 0 for known in hashes)
    assert all(store.row(str(n)) is None for n in range(3000, 6000))


def test_a_build_that_was_killed_goes_on_with_the_shard_it_was_in(tmp_path: Path) -> None:
    probes = len(embeddings.PROBES)
    with pytest.raises(KeyboardInterrupt):
        EmbeddingStore.build(CORPUS, Spelling(dies_after=2 * probes + 20), tmp_path)
    assert shard_path(tmp_path, 1).exists() and not shard_path(tmp_path, 2).exists()
    with pytest.raises(ModelFileError, match="index"):
        EmbeddingStore(tmp_path, Spelling())
    left = tmp_path / ".shard-00002.safetensors.abc.partial"  # SIGKILL runs no clean-up
    left.write_bytes(b"half a file")
    finished = {n: shard_path(tmp_path, n).stat().st_mtime_ns for n in range(2)}
    encoder = Spelling()
    store = EmbeddingStore.build(CORPUS, encoder, tmp_path)
    assert [prompt for prompt in encoder.met if prompt not in embeddings.PROBES] == CORPUS[16:]
    assert {n: shard_path(tmp_path, n).stat().st_mtime_ns for n in range(2)} == finished
    assert not left.exists() and same(store.encode(CORPUS), Spelling().encode(CORPUS))


def test_a_killed_process_leaves_nothing_that_the_next_build_cannot_use(tmp_path: Path) -> None:
    class Killed(Spelling):
        def encode(self, prompts: list[str]) -> TextEmbedding:
            if "prop number 30, side view" in prompts:
                os.kill(os.getpid(), 9)
            return super().encode(prompts)

    child = os.fork()
    if child == 0:
        EmbeddingStore.build(CORPUS, Killed(), tmp_path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9
    encoder = Spelling()
    assert len(EmbeddingStore.build(CORPUS, encoder, tmp_path)) == 40
    assert CORPUS[23] not in encoder.met and CORPUS[24] in encoder.met


def test_building_again_encodes_nothing_and_writes_nothing(tmp_path: Path) -> None:
    EmbeddingStore.build(CORPUS, Spelling(), tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    encoder = Spelling()
    EmbeddingStore.build(CORPUS, encoder, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")} == before
    assert set(encoder.met) == set(embeddings.PROBES)


@pytest.mark.parametrize("other", [Spelling("another"), Spelling(scale=1.05)], ids=["name", "weights"])
def test_the_store_of_another_encoder_is_refused(tmp_path: Path, other: Spelling) -> None:
    EmbeddingStore.build(CORPUS, Spelling(), tmp_path)
    for use in (lambda: EmbeddingStore(tmp_path, other), lambda: EmbeddingStore.build(CORPUS, other, tmp_path)):
        with pytest.raises(ModelFileError, match="choose another folder"):
            use()


def test_the_same_encoder_in_half_precision_is_the_same(tmp_path: Path) -> None:
    EmbeddingStore.build(CORPUS, Spelling(), tmp_path)
    assert len(EmbeddingStore(tmp_path, Spelling(scale=1.003))) == 40


def test_a_folder_of_other_prompts_is_refused(tmp_path: Path) -> None:
    EmbeddingStore.build(CORPUS, Spelling(), tmp_path)
    with pytest.raises(ModelFileError, match="other prompts; delete"):
        EmbeddingStore.build(CORPUS[1:], Spelling(), tmp_path)
    with pytest.raises(ModelFileError, match="no prompt"):
        EmbeddingStore.build([], Spelling(), tmp_path / "empty")


@pytest.mark.parametrize("name", ["encoder.safetensors", "index.safetensors", "shard-00003.safetensors"])
def test_a_damaged_store_is_refused_by_its_file(tmp_path: Path, name: str) -> None:
    EmbeddingStore.build(CORPUS, Spelling(), tmp_path)
    shutil.copytree(tmp_path, tmp_path / "cut")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / "cut" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match=rf"{name} is no complete"):
        EmbeddingStore(tmp_path / "cut", Spelling())
    (tmp_path / name).unlink()
    with pytest.raises(ModelFileError, match=rf"no model file at .*{name}"):
        EmbeddingStore(tmp_path, Spelling())


def test_the_table_stands_in_until_there_is_a_store(tmp_path: Path) -> None:
    assert isinstance(open_embeddings(None, Spelling()), RememberingEncoder)
    assert isinstance(open_embeddings(tmp_path, Spelling()), RememberingEncoder)
    EmbeddingStore.build(CORPUS, Spelling(), tmp_path)
    assert isinstance(open_embeddings(tmp_path, Spelling()), EmbeddingStore)


def test_opened_embeddings_are_mapped_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 MB of embeddings are open while the process's own memory stays where it was."""
    monkeypatch.setattr(embeddings, "SHARD", 512)

    class Wide(Spelling):
        def encode(self, prompts: list[str]) -> TextEmbedding:
            zeros: Tensor = torch.zeros(len(prompts), 128, 256)
            return TextEmbedding(zeros, zeros[:, 0])

    EmbeddingStore.build((str(n) for n in range(640)), Wide(), tmp_path)
    before = own_megabytes()
    store = EmbeddingStore(tmp_path, Wide())
    for n in range(0, 640, 5):
        store.encode([str(n)])
    assert own_megabytes() - before < 12


def test_a_training_step_reads_the_store_as_it_reads_the_table(tmp_path: Path) -> None:
    """The same loss to the bit; with a folder that is still empty, prompts are encoded as they are met."""
    (tmp_path / "prompts").write_text("\n".join(CORPUS))
    config = DistillConfig.model_validate(
        {
            "corpus": {"kind": "file", "path": tmp_path / "prompts"},
            "embeddings": tmp_path / "store",
            "loss": {"kind": "asd"},
            "renderer": {"kind": "lattice", "nodes": 8, "samples": 8},
            "pixels": 16,
            "prompts": 3,
        }
    )
    generator = TriplaneTransformerConfig(
        width=12, heads=2, layers=1, text_width=3, low_res=2, plane_channels=4,
        decoder=SeparateHeadsConfig(hidden=8, hidden_layers=1), radius=1.0, sphere_bias=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    network = MultiViewUViT(UViTConfig(pixels=16, stem=8, width=12, depth=1, heads=1, text_width=3))

    def losses() -> list[float]:
        encoder = open_embeddings(config.embeddings, spelling)
        task = DistillTask(generator, PropsPrior(network, encoder), encoder, config, 0)
        return [float(task.loss(step, Rank(1, 2))[0].detach()) for step in range(2)]

    spelling = Spelling()
    without = losses()
    assert 0 < len(set(spelling.met) & set(CORPUS)) <= 6, "only what two steps of three prompts needed"
    EmbeddingStore.build(CORPUS, Spelling(), tmp_path / "store")
    spelling = Spelling()
    assert losses() == without
    assert not set(spelling.met) & set(CORPUS)


def own_megabytes() -> float:
    """Anonymous resident memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("anonymous memory is read from /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024
