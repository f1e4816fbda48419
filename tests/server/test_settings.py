"""What an operator can set is documented, with the value that it has when nobody sets it."""

from pathlib import Path

import pytest

from scaledreamer.server.main import serve
from scaledreamer.server.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
TABLE = PAGE.partition("## Settings")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_a_setting_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in TABLE


def test_the_page_lists_no_setting_that_is_none() -> None:
    named = {name.strip("` ") for line in TABLE.splitlines() if line.startswith("| `") for name in
             line.split("|")[1].split(",")}  # fmt: skip
    assert named == set(Settings.model_fields)


def test_a_pickled_model_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaledreamer.server.main.configure", lambda *_: None)
    model = tmp_path / "model.pth"
    model.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    assert serve(Settings(port=0, data=tmp_path, model=str(model))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"scaledreamer convert {model}" in line and not (tmp_path / "pwned").exists()
