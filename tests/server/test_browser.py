"""The playground in a real browser: a prompt becomes a mesh on the screen, and nothing leaves the origin."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

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


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.fail("no chromium or chromedriver here; run: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        browser.set_script_timeout(30)
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})
        yield browser
    finally:
        browser.quit()


def requests(browser: webdriver.Chrome) -> list[str]:
    """Every address that the pages asked for."""
    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def test_a_prompt_becomes_a_mesh_on_the_screen(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with running(tmp_path / "data", real=True) as client:
        browser.get(f"{client.base_url}/")
        prompt = browser.find_element(By.ID, "prompt")
        prompt.clear()
        prompt.send_keys("a red barrel\n")
        WebDriverWait(browser, 120).until(lambda b: b.execute_script("return window.heard.length"))
        assert browser.execute_script("return window.heard") == ["load"]
        size = browser.execute_script("const d = viewer.getDimensions(); return [d.x, d.y, d.z]")
        assert max(size) == pytest.approx(0.9, abs=0.01), "as high as barrels are taken to be"
        links = browser.find_elements(By.CSS_SELECTOR, "#downloads a")
        assert [link.text.split()[0] for link in links] == ["GLB", "OBJ", "ZIP"]
        browser.save_screenshot(str(tmp_path / "playground.png"))

        browser.get(f"{client.base_url}/docs")
        WebDriverWait(browser, 60).until(lambda b: "/v1/jobs/{job}" in b.find_element(By.ID, "endpoints").text)

        own = urlsplit(str(client.base_url)).netloc
        asked = requests(browser)
        assert any(address.endswith(".glb") for address in asked)
        outside = [address for address in asked if address.startswith("http") and urlsplit(address).netloc != own]
        assert outside == []
        severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert severe == []


def test_a_server_with_keys_asks_for_one_and_files_come_with_it(browser: webdriver.Chrome, tmp_path: Path) -> None:
    secret = new_key(tmp_path, "ann")["authorization"].split()[1]
    with running(tmp_path) as client:
        browser.get(f"{client.base_url}/")
        field, error = browser.find_element(By.ID, "key"), browser.find_element(By.ID, "error")
        assert not field.is_displayed()
        browser.find_element(By.ID, "prompt").submit()
        wait: WebDriverWait[webdriver.Chrome] = WebDriverWait(browser, 60)
        for given, words in (("sdk_wrong", "send a key"), (secret, "unknown here")):
            wait.until(lambda _, words=words: field.is_displayed() and words in error.text)  # type: ignore[misc]
            field.send_keys(f"{given}\n")
        link = wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "#downloads a"))
        assert not field.is_displayed()
        browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {cancelable: true}))", link)
        wait.until(lambda _: str(link.get_attribute("href")).startswith("blob:"))
        read = "const done = arguments[1]; fetch(arguments[0]).then((a) => a.text()).then(done)"
        assert browser.execute_async_script(read, link.get_attribute("href")).startswith("glTF")
        assert secret not in " ".join(requests(browser))
        prompt = browser.find_element(By.ID, "prompt")
        prompt.clear()
        prompt.send_keys("nothing\n")
        wait.until(lambda _: "no zero level" in error.text)
