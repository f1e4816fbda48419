"""The playground in a real browser: jobs are followed, kept in the address, blended, canceled, and told apart."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.server import test_browser
from tests.server.running import finished, running
from tests.server.test_browser import Drawn, asked, at, status, until

pytestmark = test_browser.pytestmark
OUTLINE = """
const host = document.activeElement; // the viewer draws its ring inside, where the focus is
return getComputedStyle(host.shadowRoot?.activeElement ?? host).outlineStyle;
"""
chromium, browser = test_browser.chromium, test_browser.browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server for all tests of this file that leave it as it was."""
    with running(tmp_path_factory.mktemp("served"), finishing=Drawn) as client:
        yield client


def job_of(browser: webdriver.Chrome) -> str:
    """The id in the address."""
    return browser.current_url.partition("?job=")[2]


def loaded(browser: webdriver.Chrome) -> None:
    """Wait until the viewer shows a mesh."""
    until(browser, lambda: browser.execute_script("return viewer.loaded && facts.checkVisibility()"))


def press(browser: webdriver.Chrome, *keys: str) -> None:
    """Keys to whatever has the focus."""
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def tab_to(browser: webdriver.Chrome, selector: str, key: str = Keys.TAB) -> None:
    """Press Tab until an element has the focus, which then can be seen."""
    for _ in range(40):
        press(browser, key)
        if browser.execute_script("return document.activeElement.matches(arguments[0])", selector):
            assert browser.execute_script(OUTLINE) != "none", f"{selector} has a visible focus"
            return
    pytest.fail(f"Tab never reaches {selector}")


def test_a_refresh_keeps_the_job_and_back_and_forward_go_through_the_jobs(
    browser: webdriver.Chrome, served: httpx.Client
) -> None:
    asked(browser, "an old mug", served)
    loaded(browser)
    first = job_of(browser)
    assert first and served.get(f"/v1/jobs/{first}").json()["prompt"] == "an old mug"
    asked(browser, "a new mug")
    until(browser, lambda: job_of(browser) != first)
    loaded(browser)
    second = job_of(browser)
    browser.refresh()
    loaded(browser)
    assert job_of(browser) == second
    assert at(browser, "title").text == "a new mug" == at(browser, "prompt").get_attribute("value")
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "#history a")) >= 2)
    recent = browser.find_elements(By.CSS_SELECTOR, "#history a")
    assert [line.text.splitlines()[0] for line in recent[:2]] == ["a new mug", "an old mug"]
    assert [line.get_attribute("aria-current") for line in recent[:2]] == ["page", None]

    browser.back()
    until(browser, lambda: at(browser, "title").text == "an old mug" and job_of(browser) == first)
    loaded(browser)
    browser.back()
    until(browser, lambda: not at(browser, "job").is_displayed() and at(browser, "empty").is_displayed())
    browser.forward()
    until(browser, lambda: at(browser, "title").text == "an old mug")
    browser.find_elements(By.CSS_SELECTOR, "#history a")[0].click()
    until(browser, lambda: at(browser, "title").text == "a new mug" and job_of(browser) == second)
    assert "a new mug" in browser.title


def test_each_stage_is_marked_while_it_runs(browser: webdriver.Chrome, served: httpx.Client) -> None:
    browser.get(f"{served.base_url}/")
    browser.execute_script(
        """window.seen = [];
        new MutationObserver(() => {
          const stage = document.querySelector("#stages [aria-current=step]")?.dataset.stage;
          if (stage && seen.at(-1) !== stage) seen.push(stage);
        }).observe(stages, { childList: true });"""
    )
    asked(browser, "a watched mug")
    status(browser, "Done")
    seen = browser.execute_script("return seen")
    order = ["queued", "generate", "extract", "clean", "simplify", "texture"]
    assert [stage for stage in order if stage in seen] == seen
    assert {"extract", "clean", "simplify", "texture"} <= set(seen)
    assert not browser.find_elements(By.CSS_SELECTOR, "#stages [aria-current]")
    assert not at(browser, "progress").is_displayed() and not at(browser, "cancel").is_displayed()


def test_a_job_that_waits_tells_its_place_and_one_that_runs_is_canceled(
    browser: webdriver.Chrome, served: httpx.Client
) -> None:
    asked(browser, "hang meshing", served)
    status(browser, "Extracting")
    running_job = job_of(browser)
    browser.refresh()
    status(browser, "Extracting")
    assert browser.find_element(By.CSS_SELECTOR, "#stages [aria-current=step]").get_attribute("data-stage") == "extract"
    others = [served.post("/v1/jobs", json={"prompt": f"hang meshing {number}"}).json() for number in range(3)]
    asked(browser, "a mug in the queue")
    status(browser, "Waiting, ")
    until(browser, lambda: "before you" in at(browser, "status").text)
    browser.back()
    status(browser, "Extracting")
    at(browser, "cancel").click()
    status(browser, "Canceled")
    assert served.get(f"/v1/jobs/{running_job}").json()["status"] == "canceled"
    assert not at(browser, "cancel").is_displayed() and not at(browser, "error").is_displayed()
    assert browser.switch_to.active_element == at(browser, "prompt"), "the focus is not lost with the button"
    browser.forward()
    for job in others:
        served.post(f"/v1/jobs/{job['id']}/cancel")
    status(browser, "Done")


def test_a_second_prompt_and_the_slider_make_a_blend(browser: webdriver.Chrome, served: httpx.Client) -> None:
    browser.get(f"{served.base_url}/")
    assert not at(browser, "weight").is_enabled()
    at(browser, "second").send_keys("a pine tree")
    at(browser, "weight").send_keys(Keys.ARROW_LEFT * 4)
    assert at(browser, "share").text == "30 %"
    asked(browser, "a red mushroom")
    status(browser, "Done")
    assert at(browser, "title").text == "a red mushroom + 30 % a pine tree"
    assert served.get(f"/v1/jobs/{job_of(browser)}").json()["request"]["blend"] == ["a pine tree", 0.3]
    browser.refresh()
    status(browser, "Done")
    assert at(browser, "second").get_attribute("value") == "a pine tree"
    assert at(browser, "weight").get_attribute("value") == "30"


def test_the_menu_has_every_file_and_makes_other_formats_from_the_same_field(
    browser: webdriver.Chrome, served: httpx.Client
) -> None:
    asked(browser, "a mug for printing", served)
    loaded(browser)
    first = job_of(browser)
    at(browser, "downloads").click()
    links = browser.find_elements(By.CSS_SELECTOR, "#files a")
    job = served.get(f"/v1/jobs/{first}").json()
    assert {link.get_attribute("href") for link in links} == {file["url"] for file in job["files"]}
    assert [link.get_attribute("download") for link in links] == ["triangle.zip", "triangle.glb", "triangle.obj"]
    browser.find_element(By.CSS_SELECTOR, "#formats [aria-label='Make STL']").click()
    until(browser, lambda: job_of(browser) != first)
    until(browser, lambda: browser.switch_to.active_element.get_attribute("download") == "triangle.stl")
    made = served.get(f"/v1/jobs/{job_of(browser)}").json()
    assert made["links"]["parent"].endswith(first)
    assert made["request"]["formats"] == ["glb", "obj", "stl"]
    press(browser, Keys.ESCAPE)
    assert not browser.find_element(By.CSS_SELECTOR, "#files a").is_displayed()
    assert browser.switch_to.active_element.text.startswith("Download")


@pytest.mark.parametrize(
    ("prompt", "title", "detail"),
    [
        ("   ", "The request is not valid", "the prompt is empty; describe one object"),
        ("nothing", "The model made no surface for this prompt", "try another prompt"),
        ("broken", "The generation failed", ""),
    ],
)
def test_what_is_refused_or_fails_says_why(
    browser: webdriver.Chrome, served: httpx.Client, prompt: str, title: str, detail: str
) -> None:
    asked(browser, prompt, served)
    error = at(browser, "error")
    until(browser, lambda: error.is_displayed())
    assert title in error.text and detail in error.text
    assert error.get_attribute("role") == "alert"
    if prompt.strip():
        assert at(browser, "status").text == "Failed"
        assert browser.find_elements(By.CSS_SELECTOR, "#stages .stopped")
        browser.refresh()
        until(browser, lambda: title in at(browser, "error").text)
    press(browser, Keys.ESCAPE)
    assert not at(browser, "error").is_displayed()


def test_a_job_that_is_not_there_and_one_whose_files_are_gone(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with running(tmp_path, finishing=Drawn) as client:
        for job, words in (("../../health/live", "There is nothing here"), ("nonsense", "There is no such job")):
            browser.get(f"{client.base_url}/?job={job}")
            until(browser, lambda words=words: words in at(browser, "error").text)
        asked(browser, "a mug")
        loaded(browser)
        first = job_of(browser)
        finished(client, f"/v1/jobs/{first}")
        shutil.rmtree(tmp_path / "artifacts")
        (tmp_path / "artifacts").mkdir()
        browser.execute_cdp_cmd("Network.clearBrowserCache", {})
        browser.refresh()
        until(browser, lambda: "The files of this job have been removed" in at(browser, "error").text)
        assert at(browser, "status").text == "Expired"
        at(browser, "error").find_element(By.TAG_NAME, "button").click()
        until(browser, lambda: job_of(browser) != first)
        loaded(browser)
        assert not at(browser, "error").is_displayed()


def test_a_server_that_stops_is_told_and_waited_for(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with running(tmp_path, finishing=Drawn) as client:
        asked(browser, "hang meshing", client)
        status(browser, "Extracting")
        port = client.base_url.port
    status(browser, "The server does not answer")
    until(browser, lambda: at(browser, "ready").text == "offline")
    with running(tmp_path, finishing=Drawn, port=port) as client:
        status(browser, "Extracting")
        client.post(f"/v1/jobs/{job_of(browser)}/cancel")
        status(browser, "Canceled")
    asked(browser, "a mug")
    until(browser, lambda: "The server does not answer" in at(browser, "error").text)
    assert "scaledreamer serve" in at(browser, "error").text


def test_all_of_it_works_with_the_keyboard_alone(browser: webdriver.Chrome, served: httpx.Client) -> None:
    browser.get(f"{served.base_url}/")
    assert browser.switch_to.active_element == at(browser, "prompt")
    press(browser, Keys.CONTROL + "a", "a mug of keys")
    tab_to(browser, "#second")
    press(browser, "a chest")
    tab_to(browser, "#weight")
    press(browser, Keys.ARROW_RIGHT)
    tab_to(browser, "#options summary")
    press(browser, Keys.ENTER)
    tab_to(browser, "#preset")
    press(browser, "m")
    tab_to(browser, "#generate")
    press(browser, Keys.ENTER)
    loaded(browser)
    request = served.get(f"/v1/jobs/{job_of(browser)}").json()["request"]
    assert (request["prompt"], request["blend"]) == ("a mug of keys", ["a chest", 0.55])
    assert request["preset"] == "mobile"
    tab_to(browser, "#history a")
    tab_to(browser, "#downloads summary")
    press(browser, Keys.ENTER)
    tab_to(browser, "#files a")
    press(browser, Keys.ESCAPE)
    assert browser.switch_to.active_element.text.startswith("Download")
    tab_to(browser, "#viewer")
    tab_to(browser, "#new", Keys.SHIFT + Keys.TAB)
    press(browser, Keys.ENTER)
    until(browser, lambda: job_of(browser) == "" and browser.switch_to.active_element == at(browser, "prompt"))
    names = """return [...document.querySelectorAll("button, input, select, textarea, summary, a, progress")]
      .filter((one) => !(one.textContent.trim() || one.labels?.length || one.getAttribute("aria-label")))"""
    assert browser.execute_script(names) == [], "everything has a name"
