"""The page of a Study as people use it: without a script, and in a browser; its answers are those of real pipelines."""

import csv
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from io import StringIO
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from node.domain.account import Role
from node.domain.job import Job
from node.domain.result import ResultKind
from node.domain.review import Verdict
from node.domain.uids import StudyUID
from node.ledger.reviews import ReviewLedger
from tests.answered import ENVIRONMENT, HOSTILE, AnsweredStudies, make_answered_studies
from tests.peers import require_browser, wait_until
from tests.phantoms import SMALL_NODULES, small_chest_ct
from tests.viewer import BROWSER_OPTIONS
from tests.websites import Website, website

LIMIT_S = 60.0
PASSWORD = "a long way to the harbor"
CSRF = re.compile(r'name="csrf" value="([^"]+)"')
FORM = re.compile(r"<form\b.*?</form>", re.DOTALL)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> AnsweredStudies:
    return make_answered_studies(tmp_path_factory.mktemp("answered"))


@pytest.fixture(scope="module")
def site(studies: AnsweredStudies) -> Iterator[Website]:
    with website(studies.folder, ENVIRONMENT) as opened:
        yield opened


class Person:
    """Somebody who has logged in."""

    def __init__(self, site: Website, name: str, role: Role) -> None:
        self.site = site
        user = site.services.registry.add_user(name, role, password=PASSWORD, by="test")
        self.secret = site.services.doorkeeper.admit(user, address="127.0.0.1")

    def get(self, path: str) -> str:
        response, body = self.site.ask("GET", path, headers={"Cookie": f"radnode={self.secret}"})
        assert response.status == HTTPStatus.OK, body
        return body.decode()

    def post(self, path: str, csrf: str | None, **fields: str) -> tuple[int, str]:
        """Return status and Location of the answer to a form."""
        headers = {"Cookie": f"radnode={self.secret}", "Content-Type": "application/x-www-form-urlencoded"}
        sent = fields if csrf is None else {**fields, "csrf": csrf}
        response, _ = self.site.ask("POST", path, body=urlencode(sent).encode(), headers=headers)
        return response.status, response.headers.get("Location", "")


@pytest.fixture(scope="module")
def operator(site: Website) -> Person:
    return Person(site, "oliver", Role.OPERATOR)


@pytest.fixture(scope="module")
def viewer(site: Website) -> Person:
    return Person(site, "rita", Role.VIEWER)


def csrf_of(html: str) -> str:
    found = CSRF.search(html)
    assert found is not None
    return found[1]


def only_job(site: Website, uid: StudyUID) -> Job:
    (job,) = site.services.view.study_story(uid).jobs
    return job


def seg_of(site: Website, uid: StudyUID) -> str:
    story = site.services.view.study_story(uid)
    return next(one.sop_instance_uid for one in story.results if one.kind is ResultKind.SEG)


def test_the_page_says_what_was_seen_how_long_it_took_and_where_it_is(viewer: Person, studies: AnsweredStudies) -> None:
    html = viewer.get(f"/studies/{studies.ct}")
    for words in (
        "<h1>Phantom, Anna", "ID <b>PH-0001</b>", "F, 63 y", "2 lung nodules, largest", "s from last slice to result",
        "48 Instances, 1 Association", "1 of 3 rules match", "SEG is not accepted (0x03); the summary picture goes",
        "it goes because SEG or SR is not taken", "AI result, unverified",
        f"/viewer/viewer?StudyInstanceUIDs={studies.ct}",
    ):  # fmt: skip
        assert words in html
    picture = re.search(r'<img class="slice" src="([^"]+)" alt="Image (\d+) of 48', html)
    assert picture is not None
    response, content = viewer.site.ask("GET", picture[1].replace("&amp;", "&"))
    assert (response.status, content[:2]) == (HTTPStatus.OK, b"\xff\xd8")


def test_a_viewer_is_offered_no_orders_and_may_give_none(viewer: Person, studies: AnsweredStudies) -> None:
    html = viewer.get(f"/studies/{studies.ct}")
    assert "Accept" in html
    assert [word for word in ("Reprocess…", "Retract…", "Retry all open") if word in html] == []
    for path in ("reprocess", "deliveries/retry"):
        status, _ = viewer.post(f"/studies/{studies.ct}/{path}", csrf_of(html))
        assert status == HTTPStatus.FORBIDDEN


def test_an_unwanted_study_answers_first_why_nothing_happened(operator: Person, studies: AnsweredStudies) -> None:
    html = operator.get(f"/studies/{studies.unwanted}")
    assert "Nothing was run" in html
    first = re.search(r'<p id="nothing">(.*?)</p>', html, re.DOTALL)
    assert first is not None
    assert first[1].startswith("No rule wants this Study. Nearest is the rule “CT chest: lung nodules”")
    assert "slice_count &gt;= 3 (found: 2)" in first[1]
    deciding = re.search(r'<tr class="decides">.*?</tr>', html, re.DOTALL)
    assert deciding is not None
    assert "slice_count" in deciding[0]
    assert html.count('<span class="quiet">not asked</span>') >= 1


def test_what_a_header_says_is_text_and_nothing_else(operator: Person, studies: AnsweredStudies) -> None:
    html = operator.get(f"/studies/{studies.unwanted}")
    assert HOSTILE not in html
    assert "&lt;script&gt;document.title" in html


def test_every_form_shows_that_a_page_of_ours_has_made_it(operator: Person, studies: AnsweredStudies) -> None:
    html = operator.get(f"/studies/{studies.ct}")
    forms = [form for form in FORM.findall(html) if "/studies/" in form]
    assert len(forms) >= 7
    assert all(CSRF.search(form) for form in forms)
    status, _ = operator.post(f"/studies/{studies.ct}/reprocess", None)
    assert status == HTTPStatus.FORBIDDEN


def test_pages_and_pictures_of_what_is_not_there_are_not_found(operator: Person, studies: AnsweredStudies) -> None:
    sr = next(one for one in operator.site.services.view.study_story(studies.ct).results if one.kind is ResultKind.SR)
    for path, status in (
        ("/studies/9.9.9", HTTPStatus.NOT_FOUND),
        ("/studies/..", HTTPStatus.BAD_REQUEST),
        (f"/studies/{studies.ct}/outlines/{sr.sop_instance_uid}", HTTPStatus.NOT_FOUND),
        (f"/studies/{studies.xray}/outlines/{seg_of(operator.site, studies.ct)}", HTTPStatus.NOT_FOUND),
        (f"/studies/{studies.xray}/jobs/{only_job(operator.site, studies.ct).job_id}/retract", HTTPStatus.NOT_FOUND),
    ):
        response, _ = operator.site.ask("GET", path)
        assert response.status == status, path


def test_outlines_lie_on_the_phantom_s_nodules(site: Website, studies: AnsweredStudies) -> None:
    url = f"/studies/{studies.ct}/outlines/{seg_of(site, studies.ct)}"
    response, body = site.ask("GET", url)
    told = json.loads(body)
    slices = sorted(small_chest_ct().datasets, key=lambda ds: float(ds.ImagePositionPatient[2]))
    # The most certain comes first, whichever it is.
    heights = {number: float(slices[index].ImagePositionPatient[2]) for number, index in told["keys"].items()}
    assert len(heights) == len(SMALL_NODULES)
    for nodule in SMALL_NODULES:
        number = min(heights, key=lambda one: abs(heights[one] - nodule.center_mm[2]))
        index = told["keys"][number]
        ds = slices[index]
        assert abs(heights[number] - nodule.center_mm[2]) <= 3.0
        (outline,) = [one["points"] for one in told["outlines"][str(index)] if one["finding"] == int(number)]
        center = [
            float(ds.ImagePositionPatient[axis]) + (mean - 0.5) * float(ds.PixelSpacing[0])
            for axis, mean in enumerate(map(_middle, zip(*outline, strict=True)))
        ]
        # A pixel is 1.4 mm wide; the contour is the model's.
        assert math.dist(center, nodule.center_mm[:2]) <= 2.0
    again, _ = site.ask("GET", url, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status == HTTPStatus.NOT_MODIFIED


def _middle(values: tuple[float, ...]) -> float:
    return (min(values) + max(values)) / 2


def test_a_verdict_needs_no_script_and_is_exported_without_formulas(viewer: Person, studies: AnsweredStudies) -> None:
    page = f"/studies/{studies.xray}"
    job = only_job(viewer.site, studies.xray)
    csrf = csrf_of(viewer.get(page))
    form = f"{page}/jobs/{job.job_id}/findings/1/review"
    status, location = viewer.post(form, csrf, verdict="correct", instead="other", comment="=1+1")
    assert status == HTTPStatus.SEE_OTHER
    assert location == f"{page}?said=finding-reviewed#finding-{job.job_id}-1"
    html = viewer.get(location.partition("#")[0])
    assert "Your verdict is kept." in html
    assert re.search(r"Corrected by rita, .*?, other instead: =1\+1", html, re.DOTALL)
    rows = list(csv.DictReader(StringIO(viewer.get("/feedback.csv").lstrip("\ufeff"))))
    (row,) = [one for one in rows if one["job"] == job.job_id]
    assert (row["verdict"], row["instead"], row["comment"], row["counts"]) == ("correct", "other", "'=1+1", "yes")
    assert "Clara" not in viewer.get("/feedback.csv")
    assert viewer.post(form, csrf, verdict="perhaps")[0] == HTTPStatus.BAD_REQUEST
    assert viewer.post(form, csrf, verdict="correct", long_axis_mm="wide")[0] == HTTPStatus.BAD_REQUEST
    other = form.replace(studies.xray, studies.ct)
    assert viewer.post(other, csrf, verdict="accept")[0] == HTTPStatus.NOT_FOUND


def test_one_delivery_or_all_open_ones_are_sent_again(operator: Person, studies: AnsweredStudies) -> None:
    page, view = f"/studies/{studies.ct}", operator.site.services.view
    csrf = csrf_of(operator.get(page))
    refused = next(one for one in view.study_story(studies.ct).deliveries if one.state.value == "REFUSED")
    sent = operator.post(f"{page}/deliveries/retry", csrf, delivery=str(refused.delivery_id))
    assert sent == (HTTPStatus.SEE_OTHER, f"{page}?said=deliveries-due#deliveries")
    states = {one.delivery_id: one.state.value for one in view.study_story(studies.ct).deliveries}
    assert states[refused.delivery_id] == "PENDING"
    nothing = operator.post(f"/studies/{studies.unwanted}/deliveries/retry", csrf)
    assert nothing[1] == f"/studies/{studies.unwanted}?said=deliveries-none#deliveries"
    assert operator.post(f"{page}/deliveries/retry", csrf, delivery="one")[0] == HTTPStatus.BAD_REQUEST


def test_reprocessing_is_ordered_once_and_stands_in_the_trail(operator: Person, studies: AnsweredStudies) -> None:
    page = f"/studies/{studies.unwanted}"
    csrf = csrf_of(operator.get(f"/studies/{studies.ct}"))
    assert operator.post(f"{page}/reprocess", csrf)[1] == f"{page}?said=study-reprocessed#jobs"
    assert operator.post(f"{page}/reprocess", csrf)[0] == HTTPStatus.CONFLICT
    told = [event for event in operator.site.told if event.kind == "study-reprocessed"]
    assert [event.text for event in told] == [f"oliver lets the rules be asked again for Study {studies.unwanted}"]
    assert "Reprocess…" not in operator.get(page)


@contextmanager
def browser_page(person: Person) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_browser(), args=list(BROWSER_OPTIONS))
        context = browser.new_context(base_url=f"http://127.0.0.1:{person.site.port}")
        context.add_cookies(
            [{"name": "radnode", "value": person.secret, "url": f"http://127.0.0.1:{person.site.port}"}]
        )
        page = context.new_page()
        page.set_default_timeout(LIMIT_S * 1000)
        expect.set_options(timeout=LIMIT_S * 1000)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        # What the Content Security Policy keeps from running is told there, beside every answer that is a refusal.
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        yield page
        browser.close()
        assert faults == []


def test_a_radiologist_scrolls_jumps_hides_contours_and_rejects_a_finding(
    viewer: Person, studies: AnsweredStudies
) -> None:
    job = only_job(viewer.site, studies.ct)
    with browser_page(viewer) as page:
        page.goto(f"/studies/{studies.ct}")
        figure = page.locator("figure[data-index]")
        start = int(figure.get_attribute("data-index") or -1)
        page.keyboard.press("2")
        figure.focus()
        page.keyboard.press("ArrowDown")
        expect(figure).to_have_attribute("data-index", str(start + 1))
        page.keyboard.press("2")
        group = figure.locator("svg.outlines g[data-finding='2']")
        expect(group).to_be_visible()
        expect(group.locator("text")).to_have_text("2")
        assert _is_within_a_picture_s_nodule(page)
        page.keyboard.press("c")
        expect(group).to_be_hidden()
        page.keyboard.press("c")
        expect(group).to_be_visible()
        shown = figure.get_attribute("data-index")
        finding = page.locator(f"#finding-{job.job_id}-2")
        finding.get_by_role("button", name="Reject").click()
        expect(finding.get_by_role("status")).to_contain_text("Rejected by rita")
        expect(finding.get_by_role("button", name="Reject")).to_have_attribute("aria-pressed", "true")
        assert figure.get_attribute("data-index") == shown
        assert "said" not in page.url
        finding.get_by_text("Correct…").click()
        finding.get_by_label("Long axis, mm").fill("1")
        finding.get_by_role("button", name="Save correction").click()
        expect(finding.get_by_role("status")).to_contain_text("the short axis is not longer")
        finding.get_by_label("Short axis, mm").fill("1")
        finding.get_by_role("button", name="Save correction").click()
        expect(finding.get_by_role("status")).to_contain_text("Corrected by rita")
    newest, first = ReviewLedger(viewer.site.services.engine).reviews_of([job.job_id])[job.job_id, 2]
    assert (first.order.verdict, newest.order.verdict) == (Verdict.REJECT, Verdict.CORRECT)
    assert (newest.order.long_axis_mm, newest.order.short_axis_mm) == (1.0, 1.0)


def _is_within_a_picture_s_nodule(page: Page) -> bool:
    """Return whether the picture is brighter inside of the outline than lung is, where the browser draws it."""
    inside = page.evaluate("""() => {
      const image = document.querySelector("figure[data-index] img.slice");
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
      canvas.drawImage(image, 0, 0);
      const box = document.querySelector("svg.outlines g[data-finding='2'] polygon").getBoundingClientRect();
      const stage = image.getBoundingClientRect();
      const x = (box.x + box.width / 2 - stage.x) / stage.width * image.naturalWidth;
      const y = (box.y + box.height / 2 - stage.y) / stage.height * image.naturalHeight;
      return canvas.getImageData(Math.floor(x), Math.floor(y), 1, 1).data[0];
    }""")
    # Lung at -800 HU is drawn at 78, a nodule near 0 HU above 180.
    return int(inside) > 130


def test_hostile_text_of_a_header_runs_nothing(viewer: Person, studies: AnsweredStudies) -> None:
    with browser_page(viewer) as page:
        page.goto(f"/studies/{studies.unwanted}")
        expect(page.locator("#nothing")).to_be_visible()
        assert page.title().startswith("<script>document.title")


def test_results_are_taken_back_and_the_page_says_so(operator: Person, studies: AnsweredStudies) -> None:
    """The last test of this file: others need the Results."""
    page, job = f"/studies/{studies.ct}", only_job(operator.site, studies.ct)
    asked = operator.get(f"{page}/jobs/{job.job_id}/retract")
    for words in ('value="quality"', 'value="Nodule 2"', "This cannot be undone"):
        assert words in asked
    retract = f"{page}/jobs/{job.job_id}/retract"
    assert operator.post(retract, csrf_of(asked), reason="boredom")[0] == HTTPStatus.BAD_REQUEST
    sent = operator.post(retract, csrf_of(asked), reason="quality", strike="Nodule 2")
    assert sent == (HTTPStatus.SEE_OTHER, f"{page}?said=results-retracted#deliveries")
    assert "results-retracted" in [event.kind for event in operator.site.told]
    wait_until(
        lambda: "retraction-done" in [e.kind for e in operator.site.services.view.study_story(studies.ct).events],
        what="the retraction is done",
        limit_s=5 * LIMIT_S,
    )
    html = operator.get(page)
    assert "AI Lung Nodules SR" in html
    assert re.search(r"<h2[^>]*>Lung nodule ", html)
    assert html.count("Taken back</span>") == 1
    response, _ = operator.site.ask("GET", f"{page}/outlines/{seg_of(operator.site, studies.ct)}")
    assert response.status == HTTPStatus.NOT_FOUND
    assert operator.post(retract, csrf_of(asked), reason="quality")[0] in (HTTPStatus.SEE_OTHER, HTTPStatus.CONFLICT)
