"""The report's page as a reader has it: by mouse and by keyboard, on a phone, in the dark, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regroup.journal.last_run import LastRun, write_last_run
from regroup.params import load_params
from regroup.report.page.build import build_page
from regroup.run_facts import write_index
from tests.thesis import thesis

from .browser import POOR_CONTRAST, browser, requests, show
from .page_project import ODD, make_project

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = [
    pytest.mark.browser,
    # of Selenium, when it stops the driver
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    params = load_params(root / "params.yaml")
    text = build_page(
        root / params.layout.report,
        profile=params.name,
        drawn=params.drawn,
        settings=params.page,
        params_file=params.params_file,
        titles={"ge-384": "Group entropy", "original": "Original"},
        reference=thesis(),
    )
    (root / params.layout.page).write_text(text)
    for k in range(3):
        write_last_run(root, "mini", LastRun("evaluate", f"run-{k}", 1000 * k, 5000, "FINISHED", "0" * 40))
    return write_index(params, root)


def one(chrome: Chrome, selector: str) -> WebElement:
    return chrome.find_element("css selector", selector)


def column(chrome: Chrome, number: int) -> list[str]:
    """Texts of a column of Table 11, from top to bottom."""
    rows = chrome.find_elements("css selector", "#results tbody tr")
    return [row.find_elements("css selector", "th, td")[number].text for row in rows]


def test_it_opens_without_a_network_and_without_complaints(chrome: Chrome, page: Path) -> None:
    chrome.get_log("browser")
    requests(chrome)
    show(chrome, page)
    assert requests(chrome) == [page.as_uri()]
    assert chrome.get_log("browser") == []
    assert "mini" in chrome.title
    assert ODD in one(chrome, "#figure-figures-panel figcaption").text
    assert "Table 11 (mini)" in one(chrome, "#results caption").text


def test_a_column_sorts_by_click_and_back(chrome: Chrome, page: Path) -> None:
    show(chrome, page)
    # behind the gains of four datasets: COCO, ours
    heading = chrome.find_elements("css selector", "#results th[aria-sort]")[10]
    before = column(chrome, 10)
    assert before == ["9.50", "missing", "31.00", "missing"]
    shown = []
    for _ in range(3):
        heading.find_element("css selector", "button").click()
        shown.append((heading.get_attribute("aria-sort"), column(chrome, 10)))
    assert shown == [
        ("ascending", ["9.50", "31.00", "missing", "missing"]),
        ("descending", ["31.00", "9.50", "missing", "missing"]),
        ("none", before),
    ]


def test_a_column_sorts_by_keyboard_and_only_one_says_so(chrome: Chrome, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    show(chrome, page)
    name, theirs = chrome.find_elements("css selector", "#results th[aria-sort]")[:2]
    name.find_element("css selector", "button").send_keys(Keys.ENTER)
    assert column(chrome, 0) == ["Fine-tuning", "GE", "Non-noisy CL + GE", "Original"]
    theirs.find_element("css selector", "button").send_keys(Keys.SPACE)
    assert column(chrome, 1) == ["+2.51", "+3.56", "+4.38", "baseline"]
    assert name.get_attribute("aria-sort") == "none"


def test_a_figure_opens_and_closes_by_keyboard(chrome: Chrome, page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    show(chrome, page)
    button = one(chrome, "#figure-figures-panel button")
    button.send_keys(Keys.ENTER)
    dialog = one(chrome, "dialog")
    assert dialog.is_displayed()
    assert one(chrome, "#viewer-title").text == "What is seen"
    image = one(chrome, "dialog img")
    assert image.get_attribute("alt").startswith("What is seen.")
    assert chrome.execute_script("return arguments[0].naturalWidth", image) == 800
    # the focus stays inside, and what lies behind cannot be reached
    for _ in range(5):
        ActionChains(chrome).send_keys(Keys.TAB).perform()
        inside = "return document.activeElement.matches('body, dialog *')"
        assert chrome.execute_script(inside)
    one(chrome, "#viewer-scale").send_keys(Keys.ENTER)
    assert chrome.execute_script("return arguments[0].clientWidth", image) == 800
    ActionChains(chrome).send_keys(Keys.ESCAPE).perform()
    assert not dialog.is_displayed()
    assert chrome.switch_to.active_element == button


ACTIVE = """
const at = document.activeElement;
if (at === document.body) return [null, null, null];
const labelled = document.getElementById(at.getAttribute("aria-labelledby"));
const name = at.getAttribute("aria-label") || labelled?.textContent || at.textContent.trim();
return [name, getComputedStyle(at).outlineStyle, [...document.querySelectorAll("*")].indexOf(at)];
"""


def test_everything_that_can_be_pressed_has_a_name_and_a_visible_focus(chrome: Chrome, page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    show(chrome, page)
    seen = set()
    for _ in range(200):
        ActionChains(chrome).send_keys(Keys.TAB).perform()
        name, outline, place = chrome.execute_script(ACTIVE)
        if place in seen or place is None:  # round once
            break
        seen.add(place)
        assert name, place
        assert outline == "solid", name
    assert len(seen) > 40


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out_of_the_screen(chrome: Chrome, page: Path, width: int) -> None:
    show(chrome, page, width=width)
    chrome.execute_script("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    wide, room = chrome.execute_script(
        "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
    )
    assert wide <= room <= width
    # a wide table scrolls by itself, and its first column stays
    scroll = one(chrome, "#results .scroll")
    first = one(chrome, "#results tbody th")
    before = first.rect["x"]
    chrome.execute_script("arguments[0].scrollLeft = 150", scroll)
    assert first.rect["x"] == pytest.approx(before, abs=1)


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_stands_out(chrome: Chrome, page: Path, dark: bool) -> None:
    show(chrome, page, dark=dark)
    chrome.execute_script("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    seen, poor = chrome.execute_script(POOR_CONTRAST)
    assert seen > 200
    assert poor == []
    back = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") != dark


def test_the_colours_can_be_chosen(chrome: Chrome, page: Path) -> None:
    show(chrome, page)
    button = one(chrome, "#theme")
    backs = []
    for _ in range(4):
        backs.append(chrome.execute_script("return getComputedStyle(document.body).backgroundColor"))
        button.click()
    assert backs[0] == backs[1] == backs[3] != backs[2]
    assert one(chrome, "#theme").get_attribute("aria-label") == "Colours: light"
    chrome.execute_script("localStorage.clear()")


def test_on_paper_it_is_light_and_nothing_scrolls(chrome: Chrome, page: Path) -> None:
    show(chrome, page, dark=True, media="print")
    style = (
        "const s = getComputedStyle(document.querySelector(arguments[0])); return [s.display, s.overflowX]"
    )
    assert chrome.execute_script(style, ".top")[0] == "none"
    assert chrome.execute_script(style, ".scroll")[1] == "visible"
    back = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert back == "rgb(255, 255, 255)"
    printed = chrome.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert len(printed["data"]) > 10_000


def test_headings_form_an_outline_and_pictures_have_words(chrome: Chrome, page: Path) -> None:
    show(chrome, page)
    levels = chrome.execute_script(
        "return [...document.querySelectorAll('main h1, main h2, main h3')].map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    silent = "main img:not([alt]), main img[alt=''], main svg:not([aria-label])"
    assert chrome.find_elements("css selector", silent) == []
    ids = chrome.execute_script("return [...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
