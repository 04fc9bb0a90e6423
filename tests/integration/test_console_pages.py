"""The pages of flow, destinations, models, rules, audit, settings and about: what they say, and what may be done."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, sync_playwright

from node.accounts.doorkeeper import csrf_of
from node.audit.trail import trail_files
from node.clock import utc_now
from node.domain.account import Role
from node.domain.alarm import AlarmKind
from node.domain.job import JobState
from node.domain.switch import Mode
from node.ledger.alarms import AlarmLedger
from node.ledger.switches import SwitchLedger
from node.site import build_routing
from node.volumes import audit_folder, open_trail
from node.web.rights import PLAIN_COOKIE
from tests.ledgers import STUDY, Books, make_facts, make_outcome, make_result
from tests.peers import require_browser, wait_until
from tests.websites import Website, website

FORM = "application/x-www-form-urlencoded"
HOSTILE = "<script>alert(1)</script>{{7*7}}"
DESTINATIONS = (
    '{ out = { transport = "folder", url = "FOLDER" }, '
    'gone = { transport = "cstore", aet = "GONE", host = "127.0.0.1", port = 9 }, '
    'web = { transport = "stow", url = "http://kim:hush-hush@127.0.0.1:9/dicom-web" }, '
    'his = { transport = "fhir", url = "http://127.0.0.1:9/fhir", token = "hush-hush" } }'
)
PAGES = ("/flow", "/destinations", "/models", "/rules", "/audit", "/settings", "/about")
MANAGED = frozenset({"/audit", "/settings"})
ORDERS = {
    "/destinations": {},
    "/destinations/gone/test": {},
    "/destinations/gone/retry": {},
    "/destinations/gone/dismiss": {},
    "/models/lung_nodules/switch": {"mode": "shadow"},
    "/rules": {"rules": "", "span": "1d"},
    "/audit/verify": {},
}
CT_STUDY: dict[str, Any] = {
    "SeriesDescription": HOSTILE,
    "BodyPartExamined": "CHEST",
    "SeriesNumber": 2,
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PatientName": "Canary^Patient",
    "PatientID": "CANARY-ID",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has logged in."""

    site: Website
    secret: str

    def get(self, path: str) -> tuple[HTTPResponse, str]:
        response, body = self.site.ask("GET", path, headers={"Cookie": f"{PLAIN_COOKIE}={self.secret}"})
        return response, body.decode()

    def read(self, path: str) -> str:
        response, html = self.get(path)
        assert response.status == 200, html
        return html

    def post(
        self, path: str, fields: Mapping[str, str] | None = None, *, csrf: str | None = None
    ) -> tuple[HTTPResponse, str]:
        sent = {**(fields or {}), "csrf": csrf_of(self.secret) if csrf is None else csrf}
        headers = {"Cookie": f"{PLAIN_COOKIE}={self.secret}", "Content-Type": FORM}
        response, body = self.site.ask("POST", path, body=urlencode(sent).encode(), headers=headers)
        return response, body.decode()


def log_in(site: Website, role: Role) -> Person:
    user = site.services.registry.add_user(f"{role.value}-{len(site.told)}", role, password=None, by="test")
    return Person(site, site.services.doorkeeper.admit(user, address="127.0.0.1"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    folder = tmp_path_factory.mktemp("pages")
    environment = {
        "RADNODE__DESTINATIONS": DESTINATIONS.replace("FOLDER", str(folder / "out")),
        "RADNODE__ALARMS__WEBHOOK": "https://u:hush-hush@hook.example/x",
    }
    with website(folder, environment) as running:
        fill(running)
        yield running


@pytest.fixture(scope="module")
def admin(site: Website) -> Person:
    return log_in(site, Role.ADMIN)


@pytest.fixture(scope="module")
def operator(site: Website) -> Person:
    return log_in(site, Role.OPERATOR)


@pytest.fixture(scope="module")
def viewer(site: Website) -> Person:
    return log_in(site, Role.VIEWER)


def fill(site: Website) -> None:
    """Answer one chest CT whose header is hostile, leave its Deliveries, and let an alarm stand."""
    books, now = Books(site.services.settings.ledger_url), utc_now()
    for number in range(1, 5):
        place: dict[str, Any] = {"ImagePositionPatient": [0.0, 0.0, 2.0 * number]}
        books.instances.record_instance(make_facts(number, received_at=now - timedelta(minutes=9), **CT_STUDY, **place))
    books.settle(now=now - timedelta(minutes=8))
    build_routing(site.services.settings, books.engine).tick(now - timedelta(minutes=7))
    job = books.claim(books.only_job(), now=now - timedelta(minutes=6))
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=now - timedelta(minutes=5))
    AlarmLedger(books.engine).raise_alarm(AlarmKind.DESTINATION_DOWN, "gone", f"gone is down {HOSTILE}", now=now)
    books.close()


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_there_for_whoever_may_see_it(path: str, admin: Person, viewer: Person, site: Website) -> None:
    response, html = admin.get(path)
    assert response.status == 200
    assert (response.getheader("Content-Security-Policy") or "").startswith("default-src 'self'")
    assert HOSTILE not in html
    assert "49" not in re.findall(r"alert\(1\)[^ ]{0,20}", html)
    for patient in ("Canary", "CANARY-ID", "hush-hush"):
        assert patient not in html
    assert viewer.get(path)[0].status == (403 if path in MANAGED else 200)
    nobody, _ = site.ask("GET", path, headers={"Cookie": "radnode=nobody"})
    assert nobody.status == 401


@pytest.mark.parametrize("path", ORDERS)
def test_no_order_is_taken_without_the_right_or_from_another_page(path: str, viewer: Person, operator: Person) -> None:
    assert viewer.post(path, ORDERS[path])[0].status == 403
    assert operator.post(path, ORDERS[path], csrf="another")[0].status == 403
    assert operator.post(path, ORDERS[path], csrf="")[0].status == 403
    assert SwitchLedger(operator.site.services.engine).read_switches() == {}


@pytest.mark.parametrize("path", [path for path in PAGES if path not in MANAGED])
def test_whoever_may_only_read_sees_no_button(path: str, viewer: Person) -> None:
    html = viewer.read(path)
    assert re.findall(r'<form method="post" action="([^"]+)"', html) in ([], ["/logout"])
    assert "/switch?mode=" not in html


def test_flow_says_where_the_belt_stands_since_when_and_what_to_do(viewer: Person) -> None:
    html = viewer.read("/flow")
    assert "<h1>The belt stands in one place. gone does not answer.</h1>" in html
    assert re.search(r'<li data-k="critical"><h2>Delivery</h2>\s*<p class="count">4<span>Deliveries wait', html)
    assert html.count('<li data-k="ok">') == 6
    assert 'href="/destinations/gone"' in html
    assert re.search(r'aria-label="Worker: what passed in the last hour"><path d="M0\.0 26\.0 L', html)
    assert set(re.findall(r'id="(flow-[a-z]+)" data-live', html)) == {
        "flow-head", "flow-belt", "flow-alarms", "flow-hour", "flow-needs",
    }  # fmt: skip


def test_a_destination_is_tested_step_by_step_and_the_page_shows_it(operator: Person) -> None:
    response, _ = operator.post("/destinations/gone/test")
    assert (response.status, response.getheader("Location")) == (303, "/destinations/gone?said=destination-tested")
    html = operator.read("/destinations/gone?said=destination-tested")
    assert "The test is done; its steps stand below." in html
    assert html.count("not reached") == 3
    assert "no connection to port 9" in html
    assert "The test ended at a step that failed." in html
    told = [event.text for event in operator.site.told if event.kind == "destination-tested"]
    assert [text.partition(" ")[2] for text in told] == ["tests destination gone"]
    operator.post("/destinations/out/test")
    taken = operator.read("/destinations/out")
    assert taken.count("Taken</span>") == 7
    page = operator.read("/destinations/his")
    assert ("What it is told" in page, "FHIR, http://127.0.0.1:9/fhir" in page, "Taken</span>" in page) == (
        True, True, False
    )  # fmt: skip
    assert operator.post("/destinations/nobody/test")[0].status == 404
    assert operator.get("/destinations/nobody")[0].status == 404


def test_what_waits_for_a_destination_is_listed_tried_again_and_dismissed(operator: Person) -> None:
    books = Books(operator.site.services.settings.ledger_url)
    html = operator.read("/destinations/gone")
    assert f'href="/studies/{STUDY}"' in html
    (delivery,) = books.deliveries.due_deliveries("gone", utc_now(), 9)
    books.deliveries.record_refused(delivery, now=utc_now(), reason_code="destination-refused", reason_text=HOSTILE)
    html = operator.read("/destinations/gone")
    assert "&lt;script&gt;alert(1)" in html
    assert HOSTILE not in html
    assert "Dismiss refused and lost" in html
    assert operator.post("/destinations/gone/dismiss")[0].status == 303
    assert "Dismiss refused and lost" not in operator.read("/destinations/gone")
    told = [event.text for event in books.view.study_story(STUDY).events if event.kind == "delivery-dismissed"]
    assert [text.partition(" ")[2] for text in told] == [
        f"took note that {delivery.sop_instance_uid} does not go to gone"
    ]
    response, _ = operator.post("/destinations/gone/retry")
    assert response.getheader("Location") == "/destinations/gone?said=deliveries-due"
    assert len(books.deliveries.due_deliveries("gone", utc_now(), 9)) == 1
    books.close()


def test_a_switch_asks_once_is_real_and_is_audited(admin: Person, operator: Person) -> None:
    assert operator.post("/models/lung_nodules/switch", {"mode": "off"})[0].status == 403
    assert "/switch?mode=" not in operator.read("/models")
    html = admin.read("/models")
    assert html.count("Weights verified") == 3
    assert "Reference model, not for diagnosis" in html
    asked = admin.read("/models/lung_nodules/switch?mode=off")
    assert "<h1>Switch lung_nodules to off?</h1>" in asked
    assert SwitchLedger(admin.site.services.engine).read_switches() == {}
    response, _ = admin.post("/models/lung_nodules/switch", {"mode": "off", "reason": f"  {HOSTILE}\n new "})
    assert response.getheader("Location") == "/models?said=pipeline-switched"
    switch = SwitchLedger(admin.site.services.engine).read_switches()["lung_nodules"]
    assert (switch.mode, switch.reason) == (Mode.OFF, f"{HOSTILE} new")
    (told,) = [event for event in admin.site.told if event.kind == "pipeline-switched"]
    assert told.facts == {"pipeline": "lung_nodules", "mode": "off"}
    html = admin.read("/models")
    assert "&lt;script&gt;" in html
    assert HOSTILE not in html
    again, _ = admin.post("/models/lung_nodules/switch", {"mode": "off"})
    assert again.getheader("Location") == "/models?said=pipeline-unchanged"
    assert admin.post("/models/lung_nodules/switch", {"mode": "canary"})[0].status == 400
    assert admin.post("/models/nothing/switch", {"mode": "off"})[0].status == 404
    assert admin.get("/models/nothing/switch?mode=off")[0].status == 404
    admin.post("/models/lung_nodules/switch", {"mode": "on"})
    books = Books(admin.site.services.settings.ledger_url)
    assert [job.state for job in books.view.study_story(STUDY).jobs] == [JobState.COMPLETED]
    books.close()


def test_rules_are_counted_and_a_study_is_explained_clause_by_clause(viewer: Person) -> None:
    html = viewer.read(f"/rules?study={STUDY}")
    assert re.search(r'CT chest: lung nodules</span><span class="n">1 · 1</span>', html)
    assert "1 match, 0 undetermined, 2 do not match." in html
    assert "<code>modality = CT</code>" in html
    assert '<span class="label">decides</span>' in html
    assert "is not in the ledger" in viewer.read("/rules?study=1.2.3.4.5")
    wait_until(
        lambda: any(
            (event.kind, event.facts.get("study_instance_uid")) == ("study-viewed", STUDY)
            for event in list(viewer.site.told)
        ),
        what="the record of a view",
    )
    for odd in (HOSTILE, "..%2F..", "1" * 200):
        page = viewer.read(f"/rules?{urlencode({'study': odd})}")
        assert "Nothing to explain." in page
        assert HOSTILE not in page


def edit_of(person: Person, old: str, new: str) -> str:
    html = person.read("/rules")
    (text,) = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.DOTALL)
    plain = (text.replace("&#34;", '"').replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">")
             .replace("&amp;", "&"))  # fmt: skip
    assert old in plain
    return str(plain.replace(old, new, 1))


def test_an_edit_is_tried_on_the_studies_of_the_ledger_and_nothing_is_saved(operator: Person) -> None:
    before = operator.site.services.view.study_story(STUDY)
    same = operator.post("/rules", {"rules": edit_of(operator, "x", "x"), "span": "1d"})[1]
    assert "The edit says the same as the installed rules." in same
    assert "Nothing would have been done otherwise." in same
    response, html = operator.post(
        "/rules", {"rules": edit_of(operator, 'orientation = "axial"', 'orientation = "coronal"'), "span": "7d"}
    )
    assert response.status == 200
    assert '<span class="del">\u2212 orientation = &#34;axial&#34;</span>' in html
    assert '<span class="add">+ orientation = &#34;coronal&#34;</span>' in html
    assert "<dt>Studies tried</dt><dd>1</dd>" in html
    assert "<dt>Would run less</dt><dd>\u2212 1</dd>" in html
    assert "<b>lung_nodules</b> stops on 1." in html
    assert operator.site.services.view.study_story(STUDY) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rules]\n", "line 1"),
        ("aet = 'X'\n", "aet is no rule; only [[rules]] are tried here"),
        ('rules = "x"\n', "rules must be written as [[rules]]"),
        ('[[rules]]\nname = "a"\nrun = ["lung_nodules"]\n[rules.when]\nmodalty = "CT"\n', "line 5"),
        ('[[rules]]\nname = "a"\nrun = ["nothing"]\nwhen = { modality = "CT" }\n', "line 3"),
        (f'[[rules]]\nname = "{HOSTILE}"\n', "line 1"),
        ("[" * 60_000, "this is no TOML"),
    ],
)
def test_an_edit_that_cannot_be_read_is_told_with_its_line(text: str, said: str, operator: Person) -> None:
    response, html = operator.post("/rules", {"rules": text, "span": "7d"})
    assert response.status == 200
    (alert,) = re.findall(r'role="alert">(.*?)</section>', html, re.DOTALL)
    assert said in alert
    assert HOSTILE not in html
    assert "Studies tried" not in html


def test_looking_at_the_audit_trail_is_recorded_and_records_are_found(admin: Person) -> None:
    settings = admin.site.services.settings
    with_trail = open_trail(settings)
    for event in list(admin.site.told):
        with_trail.append(event)
    with_trail.sync()
    with_trail.close()
    admin.site.told.clear()
    html = admin.read("/audit")
    assert [event.kind for event in admin.site.told] == ["audit-log-used"]
    kinds = set(re.findall(r'<th scope="row" class="lead">([^<]+)</th>', html))
    assert kinds
    kind = sorted(kinds)[0]
    only = admin.read(f"/audit?{urlencode({'kind': kind, 'since': '1d'})}")
    assert set(re.findall(r'<th scope="row" class="lead">([^<]+)</th>', only)) == {kind}
    assert "No such record." in admin.read(f"/audit?{urlencode({'kind': HOSTILE})}")
    response, _ = admin.post("/audit/verify")
    assert response.getheader("Location") == "/audit?said=trail-proven"
    assert "records are whole, 1 to" in admin.read("/audit")
    newest = trail_files(audit_folder(settings))[-1]
    newest.write_bytes(newest.read_bytes().replace(b"admin", b"nimda", 1))
    admin.post("/audit/verify")
    assert "The chain is broken" in admin.read("/audit")


def test_settings_say_where_each_value_is_from_and_hide_secrets(admin: Person) -> None:
    html = admin.read("/settings")
    assert re.search(
        r"<code>alarms\.webhook</code></th><td[^>]*><span class=\"quiet\">hidden</span></td>"
        r"<td[^>]*>environment RADNODE__ALARMS__WEBHOOK</td>", html
    )  # fmt: skip
    assert re.search(r"<code>node\.port</code></th><td[^>]*>11112</td><td[^>]*><span class=\"quiet\">default", html)
    assert "http://127.0.0.1:9/dicom-web" in html
    assert re.search(r"<code>destinations\.his\.token</code></th><td[^>]*><span class=\"quiet\">hidden</span>", html)
    own = admin.read("/settings?only=own")
    assert ("destinations.web.url" in own, "node.port" in own) == (True, False)


def test_about_names_version_notice_licences_and_conformance(viewer: Person) -> None:
    html = viewer.read("/about")
    for said in ("Not a medical device", "DICOM Conformance Statement", "pydicom", "Apache", "Result"):
        assert said in html


BARE = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a[href]')]
  .filter(one => !(one.labels?.length || one.getAttribute('aria-label') || one.innerText?.trim() || one.title))
  .map(one => one.outerHTML)"""
DOUBLED = """() => { const ids = [...document.querySelectorAll('[id]')].map(one => one.id);
  return ids.filter((id, at) => ids.indexOf(id) !== at) }"""
HEADINGS = "() => [...document.querySelectorAll('h1')].length"
COLORS = """() => [...document.querySelectorAll('main *')].filter(one => one.hasAttribute('style')).length"""
WIDTH = "() => document.documentElement.scrollWidth"


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_the_window_and_name_every_control(width: int, admin: Person) -> None:
    base, faults = f"http://127.0.0.1:{admin.site.port}", []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.context.add_cookies([{"name": PLAIN_COOKIE, "value": admin.secret, "url": base}])
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        for path in (*PAGES, "/destinations/gone", "/models/lung_nodules/switch?mode=off", f"/rules?study={STUDY}"):
            page.goto(base + path)
            page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true })")
            faults += [f"{path}: {fault}" for fault in look_over(page, width)]
        browser.close()
    assert faults == []


def look_over(page: Page, width: int) -> list[str]:
    """Return what a person, or a screen reader, would stumble over."""
    found = [f"no name: {html}" for html in page.evaluate(BARE)]
    found += [f"id twice: {name}" for name in page.evaluate(DOUBLED)]
    if page.evaluate(HEADINGS) != 1:
        found.append("not one first heading")
    if page.evaluate(COLORS):
        found.append("a style of its own")
    if page.evaluate(WIDTH) > width:
        found.append(f"{page.evaluate(WIDTH)} px wide")
    return found
