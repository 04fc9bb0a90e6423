"""The worklist in Chromium: it follows the node, lets itself be held, and is moved along by keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from node.domain.decision import Outcome
from node.domain.job import Priority
from tests.ledgers import Books
from tests.peers import require_browser
from tests.websites import Website, website
from tests.worklists import answer, arrive, browser, decide, fill, looking, names, uid_of

LIMIT_MS = 30_000
SHOWN = ["Phantom, Anna", "<script>alert(1)</script>, {{7*7}}", "Dummy, Frida", "Phantom, Gustav", "Testcase, Bruno",
         "Phantom, Igor", "No name"]  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    require_browser()
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def books(site: Website) -> Iterator[Books]:
    opened = Books(site.services.settings.ledger_url)
    fill(opened)
    yield opened
    opened.close()


def wait_live(page: Page) -> None:
    """Return when the page follows the node."""
    expect(page.locator("#live[data-state=live]")).to_be_visible(timeout=LIMIT_MS)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_is_as_wide_as_its_window_and_runs_nothing_it_was_told(
    chromium: Browser, site: Website, books: Books, width: int
) -> None:
    with looking(chromium, site, width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert SHOWN[1] in names(page)
        assert page.locator("#list script").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_an_error_is_a_page_that_leads_on(chromium: Browser, site: Website, width: int) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{site.port}/nowhere")
    expect(page.get_by_role("link", name="Go to the worklist")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()


def test_search_and_filters_stand_in_the_url(chromium: Browser, site: Website, books: Books) -> None:
    with looking(chromium, site) as page:
        page.get_by_role("link", name="Needs a person 2").click()
        assert names(page) == [SHOWN[1], SHOWN[6]]
        page.get_by_role("searchbox").fill("PH-0005")
        page.keyboard.press("Enter")
        expect(page.locator("#list tr.row")).to_have_count(1)
        assert page.url.endswith("/?q=PH-0005&show=person")
        page.get_by_role("combobox", name="Modality").select_option("MR")
        expect(page.locator(".empty h2")).to_have_text("No Study matches")
        page.get_by_role("link", name="Show everything").click()
        expect(page.locator("#list tr.row")).to_have_count(len(SHOWN) + 1)
        assert page.url.endswith("/?period=all")


# These change what the others look at.
def test_rows_change_in_place_and_new_ones_wait_until_they_are_asked_for(
    chromium: Browser, site: Website, books: Books
) -> None:
    with looking(chromium, site) as page:
        wait_live(page)
        shown = names(page)
        page.locator("#list tr.row a").nth(2).focus()
        decide(books, uid_of(6), Outcome.NO_MATCH)
        row = page.locator(f"[id='s-{uid_of(6)}']")
        expect(row).to_contain_text("No match", timeout=LIMIT_MS)
        decide(books, arrive(books, 20, "New^Nina"), Outcome.MATCH, Priority.STAT)
        arrive(books, 21, "New^Ned")
        bar = page.locator("#held button")
        expect(bar).to_have_text("2 new studies, 1 of them stat: show", timeout=LIMIT_MS)
        assert names(page) == shown
        expect(page.locator("#list tr.row a").nth(2)).to_be_focused()
        bar.click()
        assert names(page)[0] == "New, Nina"
        assert len(names(page)) == len(shown) + 2
        expect(bar).to_be_hidden()
        answer(books, uid_of(20), 20)
        expect(page.locator("#list tr.row").first).to_contain_text("No findings", timeout=LIMIT_MS)


def test_keys_move_and_open_and_pause(chromium: Browser, site: Website, books: Books) -> None:
    with looking(chromium, site) as page:
        wait_live(page)
        links = page.locator("#list tr.row a")
        page.keyboard.press("j")
        expect(links.nth(0)).to_be_focused()
        page.keyboard.press("j")
        page.keyboard.press("k")
        expect(links.nth(0)).to_be_focused()
        page.keyboard.press("p")
        expect(page.locator("#live")).to_contain_text("Paused")
        arrive(books, 19, "New^Nina")
        page.keyboard.press("/")
        expect(page.locator("#q")).to_be_focused()
        page.keyboard.press("p")
        assert page.locator("#q").input_value() == "p"
        page.keyboard.press("Escape")
        expect(page.locator("#held")).to_be_hidden()
        page.keyboard.press("p")
        expect(page.locator("#held button")).to_have_text("1 new study: show", timeout=LIMIT_MS)
        page.locator("#density").click()
        assert page.evaluate("document.documentElement.dataset.density") == "compact"


def test_keys_can_be_switched_off_and_a_reader_of_the_screen_is_told_of_states_only(
    chromium: Browser, site: Website, books: Books
) -> None:
    with looking(chromium, site) as page:
        wait_live(page)
        expect(page.locator("#live-state")).to_have_text("Live")
        keys = page.get_by_role("button", name="Keys")
        keys.click()
        page.reload()
        wait_live(page)
        expect(keys).to_have_attribute("aria-pressed", "false")
        page.keyboard.press("p")
        page.keyboard.press("j")
        page.keyboard.press("/")
        expect(page.locator("#q")).not_to_be_focused()
        expect(page.locator("#live-state")).to_have_text("Live")
        keys.click()
        page.keyboard.press("p")
        expect(page.locator("#live-state")).to_have_text("Paused")


def test_the_first_study_appears_and_stays_when_the_server_goes(chromium: Browser, tmp_path: Path) -> None:
    context = chromium.new_context()
    page = context.new_page()
    with website(tmp_path) as site:
        opened = Books(site.services.settings.ledger_url)
        page.goto(f"http://127.0.0.1:{site.port}/")
        expect(page.locator("#list")).to_contain_text("radnode demo --keep")
        wait_live(page)
        arrive(opened, 1, "Phantom^Anna")
        expect(page.locator("#list tr.row")).to_have_count(1, timeout=LIMIT_MS)
        opened.close()
    expect(page.locator("#live")).to_contain_text("Not live", timeout=LIMIT_MS)
    page.evaluate("document.querySelector('#try').click()")
    expect(page.locator("#stale")).to_be_visible(timeout=LIMIT_MS)
    assert names(page) == ["Phantom, Anna"]
    context.close()
