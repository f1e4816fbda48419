"""The playground in a real browser: a prompt becomes a mesh on the screen, keys are asked for, copies run."""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from scaledreamer.export.presets import PRESETS, asset_settings
from scaledreamer.server.finishing import FinishTask, describe
from scaledreamer.server.records import Outcome
from scaledreamer.server.schemas import FORMATS
from tests.server.fakes import FakeFinishing, Say
from tests.server.running import running
from tests.server.test_keys import new_key

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]
FLAGS = (
    "--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--window-size=1280,800"
)
LISTEN = """
window.heard = [];
for (const name of ["load", "error"])
  document.addEventListener(name, (e) => { if (e.target.id === "viewer") window.heard.push(name); }, true);
document.addEventListener("securitypolicyviolation",
  (e) => window.heard.push(`${e.violatedDirective} ${e.blockedURI}`));
"""
PATIENCE = 120.0  # seconds, for a machine that has other work


class Drawn(FakeFinishing):
    """Its GLB holds a triangle that a viewer can show, and a pause in each stage lets one watch."""

    def finish(self, task: FinishTask, say: Say) -> Outcome:
        """The files of the fake, the GLB a whole one."""
        for share, stage in enumerate(("extract", "clean", "simplify", "texture")):
            say((stage, share / 5))
            time.sleep("watched" in task.prompt)
        outcome = super().finish(task, lambda _: None)
        path = task.folder / "triangle.glb"
        path.write_bytes(triangle())
        drawn = describe(path, "mesh", "model/gltf-binary")
        return replace(outcome, files=tuple(drawn if file.name == path.name else file for file in outcome.files))


def triangle() -> bytes:
    """A GLB of one triangle (glTF 2.0, 4.4)."""
    points = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
    accessor = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0]}
    scene = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}], "accessors": [accessor],
        "bufferViews": [{"buffer": 0, "byteLength": len(points)}], "buffers": [{"byteLength": len(points)}],
    }  # fmt: skip
    text = json.dumps(scene).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(points), len(text), 0x4E4F534A)
    return head + text + struct.pack("<II", len(points), 0x004E4942) + points


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One browser for the tests of a file."""
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.fail("no chromium or chromedriver here; run: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        browser.set_script_timeout(30)
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The browser; after the test nothing has left the origin or broken the policy of the page."""
    chromium.get_log("performance")
    yield chromium
    outside = [at for at in requests(chromium) if at.startswith("http") and urlsplit(at).hostname != "127.0.0.1"]
    assert outside == []
    said = [entry["message"] for entry in chromium.get_log("browser")]
    assert [message for message in said if "Content Security Policy" in message] == []
    chromium.get("about:blank")


def requests(browser: webdriver.Chrome) -> list[str]:
    """Every address that the pages asked for since the last look."""
    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def at(browser: webdriver.Chrome, name: str) -> WebElement:
    """The element of an id."""
    return browser.find_element(By.ID, name)


def until(browser: webdriver.Chrome, met: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for something to be so."""
    ignored = [StaleElementReferenceException]
    WebDriverWait(browser, seconds, 0.1, ignored_exceptions=ignored).until(lambda _: met())


def status(browser: webdriver.Chrome, words: str) -> None:
    """Wait until the status of the job begins with these words."""
    until(browser, lambda: at(browser, "status").text.startswith(words))


def asked(browser: webdriver.Chrome, prompt: str, client: httpx.Client | None = None) -> None:
    """Type a prompt and press Enter, on a page that is opened first where a client is given."""
    if client is not None:
        browser.get(f"{client.base_url}/")
    field = at(browser, "prompt")
    field.clear()
    field.send_keys(f"{prompt}\n")


def test_a_prompt_becomes_a_mesh_on_the_screen(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with running(tmp_path / "data", real=True) as client:
        asked(browser, "a red barrel", client)
        until(browser, lambda: browser.execute_script("return window.heard.length"), 400)
        assert browser.execute_script("return window.heard") == ["load"]
        size = browser.execute_script("const d = viewer.getDimensions(); return [d.x, d.y, d.z]")
        assert max(size) == pytest.approx(0.9, abs=0.01), "as high as barrels are taken to be"
        faces = int(at(browser, "facts").text.split(" faces")[0].replace(",", ""))
        assert faces == pytest.approx(10_000, rel=0.005), "what a prop is simplified to, less what cleaning takes off"
        assert at(browser, "status").text == "Done"
        names = [line.text.split()[0] for line in browser.find_elements(By.CSS_SELECTOR, "#stages .done")]
        assert names == ["Queue", "Shape", "Surface", "Clean", "Simplify", "Levels", "Hull", "Texture", "Files"]
        shown = "return document.querySelector('#history img').naturalWidth"
        until(browser, lambda: browser.execute_script(shown) == 512)
        at(browser, "downloads").click()
        links = browser.find_elements(By.CSS_SELECTOR, "#files a")
        assert [link.get_attribute("data-format") for link in links[:3]] == ["zip", "glb", "obj"]
        browser.save_screenshot(str(tmp_path / "playground.png"))

        browser.get(f"{client.base_url}/docs")
        until(browser, lambda: "/v1/jobs/{job}" in at(browser, "endpoints").text)
        severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert severe == []


def test_a_server_with_keys_asks_for_one_and_files_come_with_it(browser: webdriver.Chrome, tmp_path: Path) -> None:
    secret = new_key(tmp_path, "ann")["authorization"].split()[1]
    with running(tmp_path, finishing=Drawn) as client:
        asked(browser, "a mug", client)
        field, error = at(browser, "key"), at(browser, "error")
        for given, words in (("sdk_wrong", "send a key"), (secret, "unknown here")):
            until(browser, lambda words=words: field.is_displayed() and words in error.text)  # type: ignore[misc]
            field.send_keys(f"{given}\n")
        until(browser, lambda: at(browser, "past").is_displayed())
        assert not field.is_displayed() and not error.is_displayed()
        asked(browser, "a mug")
        until(browser, lambda: browser.execute_script("return window.heard.includes('load')"))
        at(browser, "downloads").click()
        link = browser.find_element(By.CSS_SELECTOR, "#files [data-format=obj]")
        browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {cancelable: true}))", link)
        until(browser, lambda: str(link.get_attribute("href")).startswith("blob:"))
        read = "const done = arguments[1]; fetch(arguments[0]).then((a) => a.text()).then(done)"
        assert browser.execute_async_script(read, link.get_attribute("href")) == "glTFa mug128"
        assert secret not in " ".join(requests(browser))
        asked(browser, "nothing")
        until(browser, lambda: "no zero level" in error.text)


def test_a_request_is_copied_as_curl_and_as_python_that_run(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with running(tmp_path / "data") as client:
        browser.get(f"{client.base_url}/")
        origin = str(client.base_url).rstrip("/")
        clipboard = ["clipboardReadWrite", "clipboardSanitizedWrite"]  # what is not granted here is denied
        browser.execute_cdp_cmd("Browser.grantPermissions", {"origin": origin, "permissions": clipboard})
        for name, words in (("prompt", 'a "wizard\'s" mug $HOME \\n'), ("second", "a chest")):
            at(browser, name).clear()
            at(browser, name).send_keys(words)
        at(browser, "code").click()
        copied: dict[str, str] = {}
        for name in ("curl", "python"):
            browser.execute_script("copied.textContent = ''")
            button = browser.find_element(By.CSS_SELECTOR, f"[data-copy={name}]")
            browser.execute_script("arguments[0].scrollIntoView()", button)
            button.click()
            until(browser, lambda: at(browser, "copied").text == "Copied.")
            copied[name] = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        if shutil.which("curl"):
            subprocess.run(["sh", "-ec", copied["curl"]], cwd=tmp_path, check=True, capture_output=True)
            assert (tmp_path / "a-wizard-s-mug-home-n.glb").read_bytes().startswith(b"glTF")
        environment = {**os.environ, "NO_PROXY": "*"}
        subprocess.run([sys.executable, "-c", copied["python"]], cwd=tmp_path, check=True, env=environment)
        assert (tmp_path / "a-wizard-s-mug-home-n" / "triangle.glb").exists()
        for job in client.get("/v1/jobs").json()["jobs"]:
            assert job["prompt"] == 'a "wizard\'s" mug $HOME \\n'
            assert job["request"]["blend"] == ["a chest", 0.5]


def test_the_page_offers_the_presets_and_formats_that_there_are(
    browser: webdriver.Chrome, client: httpx.Client
) -> None:
    browser.get(f"{client.base_url}/")
    presets = browser.execute_script("return [...preset.options].map((one) => [one.value, +one.dataset.resolution])")
    assert presets == [[name, asset_settings(name).resolution] for name in PRESETS]
    asked(browser, "a mug")
    status(browser, "Done")
    at(browser, "downloads").click()
    offered = [button.text.lower() for button in browser.find_elements(By.CSS_SELECTOR, "#formats button")]
    assert sorted([*offered, "glb", "obj"]) == sorted(FORMATS)
