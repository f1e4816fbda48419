"""Prompt files as streams, and the batches that are drawn from them."""

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from scaledreamer.errors import ConfigError
from scaledreamer.training.parallel import Rank
from scaledreamer.training.prompts import (
    CorpusConfig,
    FileCorpus,
    JsonCorpus,
    JsonLinesCorpus,
    draw_prompts,
    read_corpus,
    stream_corpus,
)
from scaledreamer.training.prompts_files import read_json_lines, read_json_split, read_lines

LIBRARY = {"train": ["a red mug", "ein rêd 木 🍄", 'a "quoted"\\ tree'], "val": [], "test": ["a red mug", "[{,}]"]}


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "prompts"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("layout", [{}, {"indent": 4}, {"indent": "\t", "ensure_ascii": False}])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_stream_of_a_library_is_what_json_load_says(tmp_path: Path, layout: dict[str, Any], split: Any) -> None:
    path = write(tmp_path, json.dumps(LIBRARY, **layout))
    assert list(read_json_split(path, split)) == json.loads(path.read_text())[split]


def test_the_stream_of_a_library_of_many_chunks_is_what_json_load_says(tmp_path: Path) -> None:
    """Prompts of every length, so that chunks end in the middle of strings, escapes and space."""
    prompts = ["é" * (n % 1000 + 1) for n in range(3000)] + ["🍄" * 1000] * 7
    path = write(tmp_path, json.dumps({"val": prompts[::-1], "train": prompts}, indent=3))
    assert list(read_json_split(path, "train")) == prompts
    assert list(read_json_split(path, "val")) == prompts[::-1]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({"train": st.lists(json_values, max_size=4)}) | json_values)
def test_any_json_is_read_as_json_load_reads_it_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = write(tmp_path_factory.mktemp("json"), json.dumps(value))
    try:
        found = list(read_json_split(path, "train"))
    except ConfigError:
        return
    assert found == [prompt.strip() for prompt in value["train"]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: found the end of the file in place of '{'"),
        ("[]", "line 1: found '\\['"),
        ('{"train": "a mug"}', "in place of '\\['"),
        ('{"train": ["a mug",\n 3]}', "line 2: found '3' in place of '\"'"),
        ('{"train": ["a mug",\n null]}', "line 2: found 'n'"),
        ('{"train": ["a mug",\n\n ["b"]]}', "line 3"),
        ('{"train": ["a mug",]}', "in place of '\"'"),
        ('{"train": ["a mug" "b"]}', "in place of ',' or ']'"),
        ('{"train": ["a mug"]', "the end of the file in place of ',' or '}'"),
        ('{"train": ["a mug', "Unterminated string"),
        ('{"train": ["a mug"]} {}', "after the end"),
        ('{"train": ["a mug"], "train": []}', "'train' is there twice"),
        ('{"val": ["a mug"], "other": []}', "no split 'train' among \\['val', 'other'\\]"),
        ('{"train": ["a mug", "  "]}', "the prompt is empty"),
        ('{"train": ["a\\u0000mug"]}', "control characters"),
        ('{"train": ["a\nmug"]}', "Invalid control character"),
        ('{"train": ["\\ud800"]}', "surrogate"),
        ('{"train": ["' + "x" * 1001 + '"]}', "1001 characters; at most 1000"),
        ('{"train": ["' + "x" * 3_000_000 + '"]}', "more than 1000 characters"),
        (b'{"train": ["a \xff mug"]}', "no UTF-8"),
        (b"\xff\xfe{\x00}\x00", "no UTF-8"),
        (b"\x00" * 100, "found '\\\\x00'"),
        ("[" * 100_000, "line 1"),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)[:40]),
)
def test_a_broken_library_is_refused_with_file_line_and_what_was_expected(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=complaint) as refused:
        list(read_json_split(path, "train"))
    assert str(path) in str(refused.value) and '{"train": [...]' in str(refused.value)


def test_text_lines_are_prompts_and_blank_lines_are_not(tmp_path: Path) -> None:
    path = write(tmp_path, b'\xef\xbb\xbfa red mug\r\n\n  \n an {odd} "one" \n' + "木".encode())
    assert list(read_lines(path)) == ["a red mug", 'an {odd} "one"', "木"]


def test_json_lines_give_their_prompts(tmp_path: Path) -> None:
    path = write(tmp_path, '{"prompt": "a red mug", "id": 7}\n\n{"id": [1], "prompt": " b "}\n')
    assert list(read_json_lines(path)) == ["a red mug", "b"]


@pytest.mark.parametrize(
    ("reader", "text", "complaint"),
    [
        (read_lines, b"a mug\nb\x00c\n", "line 2: the prompt holds control characters"),
        (read_lines, b"a mug\n\xff\xfe\n", "line 2.*utf-8"),
        (read_lines, "a\n\n" + "x" * 1001, "line 3: the prompt has 1001"),
        (read_lines, b"x" * 9_000_000, "line 1: longer than 4256 bytes"),
        (read_json_lines, '{"prompt": "a"}\n{"prompt": \n', "line 2: Expecting value"),
        (read_json_lines, '{"text": "a"}', 'line 1: there is no "prompt"'),
        (read_json_lines, '"a"', 'there is no "prompt"'),
        (read_json_lines, '{"prompt": 3}', "must be text, not int"),
        (read_json_lines, '{"prompt": ""}', "empty"),
        (read_json_lines, "[" * 200_000, "line 1"),
        (read_json_lines, b"\x00\x00\x00", "line 1"),
        (read_json_lines, " " * 3_000_000, "line 1: longer than"),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)[:40]),
)
def test_a_broken_line_is_refused_with_its_number(
    tmp_path: Path, reader: Any, text: str | bytes, complaint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=complaint) as refused:
        list(reader(path))
    assert str(path) in str(refused.value) and "expected one" in str(refused.value)


@pytest.mark.parametrize("corpus", [FileCorpus, JsonLinesCorpus, JsonCorpus])
def test_what_is_no_file_is_refused_by_its_key(tmp_path: Path, corpus: Any) -> None:
    for path in (tmp_path, tmp_path / "nothing", Path("/dev/zero")):
        with pytest.raises(ConfigError, match=r"corpus\.path: no file"):
            read_corpus(corpus(path=path))


def test_a_corpus_without_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no prompt"):
        read_corpus(FileCorpus(path=write(tmp_path, "\n\n")))
    with pytest.raises(ConfigError, match="holds no prompt"):
        read_corpus(JsonCorpus(path=write(tmp_path, json.dumps(LIBRARY)), split="val"))


def test_every_distinct_prompt_is_kept_once_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, "b\na\n b\nc\na\n")
    assert list(stream_corpus(FileCorpus(path=path))) == ["b", "a", "b", "c", "a"]
    assert read_corpus(FileCorpus(path=path)) == ["b", "a", "c"]


def test_the_kind_says_how_a_corpus_is_read() -> None:
    read: TypeAdapter[Any] = TypeAdapter(CorpusConfig)
    assert read.validate_python({"kind": "json", "path": "x", "split": "val"}) == JsonCorpus(
        path=Path("x"), split="val"
    )
    assert read.validate_python({"kind": "jsonl", "path": "x"}) == JsonLinesCorpus(path=Path("x"))
    for wrong in ({"kind": "json", "path": "x", "split": "dev"}, {"kind": "csv", "path": "x"}):
        with pytest.raises(ValidationError):
            read.validate_python(wrong)


@pytest.mark.parametrize("kind", ["lines", "jsonl", "json"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    """4,000 prompts, 3.6 MB: a stream holds less than half a megabyte at any time."""
    prompts = (f"a red mug number {n} " + "x" * 900 for n in range(4_000))
    if kind == "json":
        text, stream = json.dumps({"train": list(prompts)}), lambda path: read_json_split(path, "train")
    elif kind == "jsonl":
        text, stream = "\n".join(json.dumps({"prompt": prompt}) for prompt in prompts), read_json_lines
    else:
        text, stream = "\n".join(prompts), read_lines
    path = write(tmp_path, text)
    del text
    tracemalloc.start()
    count = sum(1 for _ in stream(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4_000 and peak < 500_000


CORPUS = [str(n) for n in range(103)]


def batches(step: int, count: int, seed: int = 0, processes: int = 4, corpus: list[str] = CORPUS) -> list[list[str]]:
    ranks = [Rank(index, processes) for index in range(processes)]
    return [draw_prompts(corpus, count, rank, rank.rng(seed, step, "distill")) for rank in ranks]


def test_a_batch_depends_on_seed_rank_and_step_alone() -> None:
    first = [batches(step, 5) for step in range(6)]
    assert [batches(step, 5) for step in (5, 3, 1)] == [first[5], first[3], first[1]], "whatever was drawn before"
    assert len({str(batch) for batch in first}) == 6 and batches(0, 5, seed=1) != first[0]


def test_no_prompt_is_twice_in_a_batch_or_in_two_processes() -> None:
    for step in range(50):
        drawn = [prompt for batch in batches(step, 25) for prompt in batch]
        assert len(set(drawn)) == 100


def test_processes_draw_from_the_official_shares_which_cover_the_corpus() -> None:
    met: list[set[str]] = [set(), set(), set(), set()]
    for step in range(100):
        for seen, batch in zip(met, batches(step, 10), strict=True):
            seen |= set(batch)
    assert met == [set(CORPUS[rank::4]) for rank in range(4)]


def test_every_prompt_is_drawn_equally_often() -> None:
    corpus = [str(n) for n in range(8)]
    counts = Counter(prompt for step in range(4000) for prompt in batches(step, 4, processes=1, corpus=corpus)[0])
    assert all(count == pytest.approx(2000, abs=120) for count in counts.values())


def test_a_share_smaller_than_the_batch_is_drawn_with_replacement() -> None:
    assert sorted(set(batches(0, 40, processes=1, corpus=["a", "b"])[0])) == ["a", "b"]
    assert batches(0, 2, processes=3, corpus=["a"]) == [["a", "a"]] * 3, "more processes than prompts"
    assert sorted(batches(0, 8, processes=1, corpus=CORPUS[:8])[0]) == CORPUS[:8], "the whole corpus, once"


def test_one_process_draws_what_plain_random_integers_say() -> None:
    rng = torch.Generator().manual_seed(3)
    plain = torch.randint(103, (3,), generator=torch.Generator().manual_seed(3)).tolist()
    assert draw_prompts(CORPUS, 3, Rank(), rng) == [CORPUS[place] for place in plain]
