"""A person's day with the console, in a browser: from the first login to a verdict, on a node as a site starts it."""

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize, expect, sync_playwright
from pydicom import FileDataset

from node.rehearsal.headers import write_datasets
from node.rehearsal.pacs import Misbehavior, SimulatedPacs
from tests.node_process import QUICK, NodeProcess, destination_table, run_radnode
from tests.peers import free_port, require_browser, wait_until
from tests.phantoms import small_chest_ct, small_chest_xray

WELCOME = re.compile(r"http://\S+/welcome/\S+")
NAME, PASSWORD = "ada", "eight slices of bread"
WINDOW: ViewportSize = {"width": 1280, "height": 900}
# A worker starts, a chest of 48 slices is read and reported, maybe beside other work.
LIMIT_MS = 180_000.0
CT = small_chest_ct().datasets
CANNOT_UNDERSTAND = 0xC000


def a_hand() -> Sequence[FileDataset]:
    """Return a film that no rule wants."""
    film = deepcopy(small_chest_xray(with_opacity=False).dataset)
    film.BodyPartExamined, film.PatientName, film.PatientID = "HAND", "Hand^Henry", "PH-HAND"
    film.StudyDescription = film.SeriesDescription = "Hand ap"
    del film.AnatomicRegionSequence
    return [film]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedPacs]:
    broken = Misbehavior(status=CANNOT_UNDERSTAND, status_count=10**6)
    with SimulatedPacs(tmp_path_factory.mktemp("pacs"), misbehavior=broken) as running:
        yield running


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: SimulatedPacs) -> Iterator[NodeProcess]:
    table = f'{destination_table(pacs.peer)}confirm = "none"\n'
    # What fails waits for a person.
    patient = QUICK.replace(
        "retry_seconds = 0.5\nmax_retry_seconds = 2.0", "retry_seconds = 3600.0\nmax_retry_seconds = 3600.0"
    )
    settings = f"[web]\nport = {free_port()}\n{patient}{table}"
    with NodeProcess(tmp_path_factory.mktemp("node"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_browser(), args=["--no-sandbox"])
        with browser.new_context(viewport=WINDOW, reduced_motion="reduce") as context:
            opened = context.new_page()
            opened.set_default_timeout(60_000)
            yield opened
        browser.close()


def send(node: NodeProcess, datasets: Sequence[FileDataset], folder: Path) -> str:
    """Send as a modality does, and return the Study Instance UID."""
    write_datasets(datasets, folder)
    peer = node.peer
    sent = run_radnode("send", folder, "--to", f"{peer.aet}@{peer.host}:{peer.port}")
    assert sent.returncode == 0, sent.stderr
    return str(datasets[0].StudyInstanceUID)


def test_a_persons_day(node: NodeProcess, pacs: SimulatedPacs, page: Page, tmp_path: Path) -> None:
    expect.set_options(timeout=60_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)

    # The first login.
    output = node.folder / "output.txt"
    link = wait_until(lambda: WELCOME.search(output.read_text()), what="the one-time link", limit_s=60.0)
    page.goto(link[0])
    page.get_by_label("Name").fill(NAME)
    for field in page.locator("input[type=password]").all():
        field.fill(PASSWORD)
    page.locator("main form button").click()
    expect(page.get_by_text("No Study yet")).to_be_visible()

    # A Study appears without a reload while it is sent, and tells what the AI saw when that is known.
    page.evaluate("() => { window.isTheSamePage = true; }")
    uid = send(node, CT, tmp_path / "ct")
    held, row = page.locator("#held:not([hidden]) button"), page.locator(f"[id='s-{uid}']")
    expect(held.or_(row)).to_be_visible(timeout=LIMIT_MS)
    if held.is_visible():
        held.click()
    expect(row).to_contain_text(re.compile(r"2 (lung )?nodules"), timeout=LIMIT_MS)
    assert page.evaluate("() => window.isTheSamePage === true")

    # Its findings are seen on the image.
    row.get_by_role("link").click()
    expect(page.locator("figure[data-ready]")).to_be_visible()
    page.get_by_role("button", name="Go to finding 1").click()
    expect(page.locator("svg.outlines g[data-finding='1'] polygon")).not_to_have_count(0)

    # One is rejected.
    finding = page.locator(".finding").first
    finding.get_by_role("button", name="Reject").click()
    expect(page.locator(".finding").first.get_by_role("status")).to_contain_text(f"Rejected by {NAME}")

    # A failed Delivery is tried again, once the PACS is well.
    deliveries = page.locator("#deliveries")
    expect(deliveries).to_contain_text("cannot understand", timeout=LIMIT_MS)
    pacs.change(Misbehavior())
    deliveries.get_by_role("button", name="Retry all open").click()
    expect(deliveries).to_contain_text("Sent", timeout=LIMIT_MS)
    expect(deliveries).not_to_contain_text("Pending", timeout=LIMIT_MS)
    assert pacs.record.received

    # Why not.
    other = send(node, a_hand(), tmp_path / "hand")
    page.goto(page.url.replace(uid, other).split("?")[0])
    expect(page.locator("#nothing")).to_contain_text("HAND", timeout=LIMIT_MS)

    assert faults == []
    for file in ("node.log", "output.txt"):
        assert "Traceback" not in (node.folder / file).read_text()
