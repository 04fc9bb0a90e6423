"""The API as programs use it: over a real socket, on a ledger in which something of everything has happened."""

import csv
import io
import json
import re
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from node.accounts.registry import TokenOrder
from node.audit.events import security_alert, stranger_refused
from node.clock import utc_now
from node.domain.account import RIGHTS, Right, Role
from node.domain.decision import Outcome
from node.domain.job import JobState
from node.domain.uids import StudyUID
from node.models import SHIPPED_MODELS, find_model
from node.volumes import open_trail
from tests.ledgers import Books, at, make_decision, make_facts
from tests.openapi import DOCUMENT
from tests.peers import wait_until
from tests.populated import PATIENT, Populated, populate
from tests.websites import Website, website

API = "/api/v1"
JSON = {"Content-Type": "application/json"}
REPORT_SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
DESCRIPTION = json.loads(DOCUMENT.read_text(encoding="utf-8"))
OPERATIONS = [
    pytest.param(method, path, operation, id=operation["operationId"])
    for path, operations in DESCRIPTION["paths"].items()
    for method, operation in operations.items()
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks a node."""

    site: Website
    books: Books
    has: Populated

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[HTTPResponse, bytes]:
        """Return an answer as it is."""
        content = b"" if body is None else json.dumps(body).encode()
        sent = {**(JSON if method == "POST" else {}), **(headers or {})}
        return self.site.ask(method, f"{API}{path}", body=content, headers=sent)

    def get(self, path: str) -> Any:
        """Return what is told."""
        response, content = self.ask("GET", path)
        assert response.status == 200, content
        return json.loads(content)

    def order(self, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Return status and content of the answer to an order."""
        response, content = self.ask("POST", path, body, headers)
        return response.status, json.loads(content)

    def walk(self, path: str) -> list[Any]:
        """Return the items of every page."""
        items, link = [], path
        while link:
            page = self.get(link)
            items += page["items"]
            link = (page["next"] or "").removeprefix(API)
        return items


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    folder = tmp_path / "folder"
    destinations = f'{{ pacs = {{ transport = "folder", url = "{folder}" }} }}'
    with website(tmp_path, {"RADNODE__DESTINATIONS": destinations}, rights=frozenset(Right)) as site:
        books = Books(site.services.settings.ledger_url)
        yield Client(site=site, books=books, has=populate(books))
        books.close()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A node of which everybody only asks."""
    folder = tmp_path_factory.mktemp("still")
    with website(folder, rights=frozenset(Right)) as site:
        books = Books(site.services.settings.ledger_url)
        yield Client(site=site, books=books, has=populate(books))
        books.close()


def test_a_study_is_told_in_the_shape_of_the_report(still: Client) -> None:
    told = still.get(f"/studies/{still.has.studies[0]}")
    definitions = json.loads(REPORT_SCHEMA.read_text())
    study, job = (definitions["$defs"][name] for name in ("study", "job"))
    assert set(study["properties"]) <= set(told)
    assert set(job["properties"]) <= set(told["jobs"][0])
    (decision,) = told["decisions"]
    Draft202012Validator({"$defs": definitions["$defs"], "$ref": "#/$defs/decision"}).validate(decision)
    (only,) = told["jobs"]
    assert (only["state"], only["findings"][0]["label"]) == ("COMPLETED", "Nodule 1")
    assert {result["kind"] for result in only["results"]} == {"SEG", "SR"}
    assert {one["state"] for one in told["deliveries"]} == {"SENT", "REFUSED", "PENDING"}
    assert [event["kind"] for event in told["events"]][-1] == "delivery-refused"


def test_a_study_that_nothing_ran_on_tells_why(client: Client) -> None:
    uid, now = StudyUID(client.has.studies[3]), client.site.services.clock()
    decision = replace(make_decision(outcome=Outcome.NO_MATCH), study_instance_uid=uid, inputs={})
    facts = client.books.studies.study_facts(uid)
    client.books.studies.record_routing(facts, decisions=[decision], orders=[], forwards=(), now=now)
    told = client.get(f"/studies/{uid}")
    assert (told["jobs"], told["refusal"]["code"]) == ([], "no-rule-matched")


@pytest.mark.parametrize("noun", ["studies", "jobs", "results", "deliveries", "events", "alarms"])
def test_pages_of_one_together_are_the_page_of_all(still: Client, noun: str) -> None:
    everything = still.get(f"/{noun}?limit=500")
    assert everything["next"] is None
    assert len(everything["items"]) > 1
    assert still.walk(f"/{noun}?limit=1") == everything["items"]


def test_a_link_keeps_what_was_asked(still: Client) -> None:
    response, content = still.ask("GET", "/studies?limit=1&state=ROUTED&modality=CT")
    link = json.loads(content)["next"]
    assert response.headers["Link"] == f'<{link}>; rel="next"'
    assert "state=ROUTED" in link
    found = still.walk("/studies?limit=1&state=ROUTED&modality=CT")
    assert {study["study_instance_uid"] for study in found} == set(still.has.studies[:3])


def test_a_patient_is_found(still: Client) -> None:
    (found,) = still.get("/studies?patient_id=P0")["items"]
    assert (found["patient_name"], found["deliveries"]) == ("Canary^Yellow", {"SENT": 1, "REFUSED": 1, "PENDING": 2})
    assert len(still.get("/studies?patient_name=M%C3%BCller*")["items"]) == 2
    assert still.get("/studies?since=2025-01-14T12:00:04Z&until=2025-01-14T12:00:05%2B00:00")["items"] != []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=x", "cursor=x", "cursor=WyJ4Il0", "cursor=bnVsbA", "cursor=W10", "state=GONE",
        "since=yesterday", "since=2025-01-14T12:00:00", "until=9999-12-31T23:59:59-14:00", "patient_id=%00",
        "patient_name=****a", "patient_id=", "patient_id=P0&patient_id=P1", "limit=1&since=&limit=1",
    ],
)  # fmt: skip
def test_a_question_that_is_none_is_told_what_it_should_be(still: Client, query: str) -> None:
    response, content = still.ask("GET", f"/studies?{query}")
    assert (response.status, json.loads(content)["code"]) == (400, "request-malformed")
    assert response.headers["Content-Type"] == "application/problem+json"


def test_a_cursor_of_another_listing_is_refused(still: Client) -> None:
    cursor = still.get("/events?limit=1")["next"].rpartition("cursor=")[2]
    response, _ = still.ask("GET", f"/studies?cursor={cursor}")
    assert response.status == 400


def test_a_job_is_tried_again_and_canceled_once(client: Client) -> None:
    job, installed = f"/jobs/{client.has.canceled.job_id}", find_model("ct-nodules", (SHIPPED_MODELS,)).version
    status, told = client.order(f"{job}/retry")
    assert (status, told["state"], told["model"]["version"]) == (200, "SCHEDULED", installed)
    status, told = client.order(f"{job}/cancel", {"reason": "once more"})
    assert (status, told["reason"]["text"].endswith(": once more")) == (200, True)
    assert client.order(f"{job}/cancel")[1]["code"] == "wrong-state"
    assert client.order(f"{job}/cancel")[0] == 409
    assert client.order(f"/jobs/{client.has.completed.job_id}/retry")[0] == 409
    kinds = [event["kind"] for event in client.get(f"{job}/events")["items"]]
    assert kinds[-3:] == ["job-canceled", "job-scheduled", "job-canceled"]
    assert f"by token {token_name(client)}" in client.get(f"{job}/events")["items"][-1]["text"]


def token_name(client: Client) -> str:
    name: str = client.get("/about")["you"].removeprefix("token ")
    return name


def test_who_orders_what_somebody_else_has_changed_is_told_so(client: Client) -> None:
    job = f"/jobs/{client.has.waiting.job_id}"
    seen = client.ask("GET", job)[0].headers["ETag"]
    assert client.order(f"{job}/cancel", **{"If-Match": seen})[0] == 200
    status, told = client.order(f"{job}/retry", **{"If-Match": seen})
    assert (status, told["code"]) == (412, "precondition-failed")
    assert client.books.find(client.has.waiting).state is JobState.CANCELED
    fresh = client.ask("GET", job)[0].headers["ETag"]
    assert fresh != seen
    assert client.order(f"{job}/retry", **{"If-Match": f'"other", {fresh}'})[0] == 200


def test_what_is_known_is_not_sent_again(still: Client) -> None:
    for path in (f"/studies/{still.has.studies[0]}", "/jobs", f"/jobs/{still.has.completed.job_id}", "/openapi.json"):
        response, content = still.ask("GET", path)
        again, nothing = still.ask("GET", path, headers={"If-None-Match": f"W/{response.headers['ETag']}"})
        assert (response.status, again.status, nothing) == (200, 304, b"")
        assert again.headers["ETag"] == response.headers["ETag"]
        assert content


def test_deliveries_are_sent_again_and_taken_note_of(client: Client) -> None:
    study = client.has.studies[0]
    (refused,) = client.get("/deliveries?state=REFUSED")["items"]
    path = f"/studies/{study}/deliveries"
    assert client.order(f"{path}/dismiss", {})[1] == {"count": 1}
    assert client.order(f"{path}/{refused['delivery_id']}/retry")[1] == {"count": 1}
    assert client.order(f"/studies/9.9/deliveries/{refused['delivery_id']}/retry")[1] == {"count": 0}
    assert client.get("/deliveries?state=REFUSED")["items"] == []
    assert client.order("/deliveries/retry", {"destination": "archive"})[1] == {"count": 2}
    assert client.order("/deliveries/dismiss", {"destination": "pacs"})[1] == {"count": 0}
    assert client.order("/deliveries/dismiss", {})[0] == 400


def test_a_study_is_asked_anew_and_given_up(client: Client) -> None:
    study = client.has.studies[1]
    status, told = client.order(f"/studies/{study}/reprocess")
    assert (status, told["state"]) == (200, "SETTLED")
    assert client.order(f"/studies/{study}/reprocess")[0] == 409
    assert client.site.told[-1].kind == "study-reprocessed"
    assert client.get(f"/studies/{study}/obstacles")["may_go"] is False
    assert client.ask("DELETE", f"/studies/{study}?reason=test")[0].status == 409
    gone = client.has.studies[0]
    response, content = client.ask("DELETE", f"/studies/{gone}?reason=test&anyway=true")
    assert (response.status, json.loads(content)["files"]) == (202, 3)
    assert client.get(f"/studies/{gone}")["state"] == "PURGED"
    assert client.ask("DELETE", f"/studies/{gone}")[0].status == 400
    assert client.ask("DELETE", "/studies/9.9?reason=test")[0].status == 404


def test_an_answer_of_an_earlier_version_says_since_when(client: Client) -> None:
    uid, study = client.has.completed.job_id, client.has.completed.order.study_instance_uid
    assert client.get(f"/jobs/{uid}")["outdated_at"] is None
    client.books.instances.record_instance(make_facts(study=study, digest="another", received_at=at(50)))
    since = at(50).isoformat().replace("+00:00", "Z")
    assert client.get(f"/jobs/{uid}")["outdated_at"] == since
    (in_short,) = [one for line in client.walk("/studies") for one in line["jobs"] if one["job_id"] == uid]
    assert (in_short["outdated_at"], in_short["undetermined"]) == (since, 0)
    table = client.ask("GET", "/jobs", headers={"Accept": "text/csv"})[1].decode("utf-8-sig")
    rows = {row["job_id"]: row for row in csv.DictReader(io.StringIO(table, newline=""))}
    assert (rows[uid]["outdated_at"], rows[uid]["undetermined"]) == (at(50).isoformat(), "0")


def test_findings_that_were_given_up_are_null_and_not_none(client: Client) -> None:
    job = client.get(f"/jobs/{client.has.completed.job_id}")
    assert job["findings"]
    client.books.give_up(study=job["study_instance_uid"], now=utc_now())
    path = f"/jobs/{job['job_id']}"
    told = client.get(path)
    assert (told["findings"], told["fhir"]) == (None, None)
    assert "given up here" in told["in_words"]
    listed = {one["job_id"]: one for one in client.walk("/jobs")}
    assert listed[job["job_id"]]["findings"] is None
    in_short = {one["job_id"]: one["findings"] for line in client.walk("/studies") for one in line["jobs"]}
    assert in_short[job["job_id"]] is None
    (of_study,) = [
        one for one in client.get(f"/studies/{told['study_instance_uid']}")["jobs"] if one["job_id"] == job["job_id"]
    ]
    assert of_study["findings"] is None
    table = client.ask("GET", "/jobs", headers={"Accept": "text/csv"})[1].decode("utf-8-sig")
    rows = {row["job_id"]: row for row in csv.DictReader(io.StringIO(table, newline=""))}
    assert rows[job["job_id"]]["findings"] == ""
    response, content = client.ask("GET", f"{path}/fhir")
    assert (response.status, b"given up" in content) == (404, True)


def test_a_destination_is_tried_and_what_it_takes_is_known(client: Client) -> None:
    assert client.get("/destinations/pacs")["takes"] == []
    status, told = client.order("/destinations/pacs/test")
    assert (status, told["is_passed"]) == (200, True)
    tested = [event for event in client.site.told if event.kind == "destination-tested"]
    assert [(event.text, event.facts) for event in tested] == [
        (f"token {token_name(client)} tests destination pacs", {"destination": "pacs"})
    ]
    assert "SEG" in client.get("/destinations")["items"][0]["takes"]
    assert client.order("/destinations/none/test")[0] == 404


def test_a_destination_is_tried_by_one_at_a_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as threads:
        silent.settimeout(60)
        port = silent.getsockname()[1]
        mute = f'{{ mute = {{ transport = "cstore", aet = "MUTE", host = "127.0.0.1", port = {port} }} }}'
        with website(tmp_path, {"RADNODE__DESTINATIONS": mute}, rights=frozenset(Right)) as site:
            path = f"{API}/destinations/mute/test"
            first = threads.submit(site.ask, "POST", path)
            # It is called, and answers nothing.
            called, _ = silent.accept()
            response, content = site.ask("POST", path)
            assert (response.status, json.loads(content)["code"]) == (409, "wrong-state")
            assert site.services.tester.last("mute") is None
            called.close()
            silent.close()
            assert json.loads(first.result()[1])["is_passed"] is False
            assert site.services.tester.last("mute") is not None


def test_a_finding_is_reviewed_and_reviews_are_listed(client: Client) -> None:
    path = f"/jobs/{client.has.completed.job_id}/findings/1/review"
    assert client.order(path, {"verdict": "correct"})[1]["code"] == "request-malformed"
    for number, verdict in enumerate(("reject", "accept"), 1):
        status, told = client.order(path, {"verdict": verdict, "comment": "=1+1"})
        assert (status, told["review_id"], told["is_current"]) == (200, number, True)
    assert client.order(f"/jobs/{client.has.completed.job_id}/findings/9/review", {"verdict": "accept"})[0] == 404
    assert client.order(f"/jobs/{client.has.waiting.job_id}/findings/1/review", {"verdict": "accept"})[0] == 409
    listed = client.walk("/reviews?limit=1")
    assert [(one["verdict"], one["is_current"], one["reviewer"]) for one in listed] == [
        ("accept", True, f"token {token_name(client)}"),
        ("reject", False, f"token {token_name(client)}"),
    ]
    table = client.ask("GET", "/reviews", headers={"Accept": "text/csv"})[1].decode("utf-8-sig")
    assert [row["comment"] for row in csv.DictReader(io.StringIO(table, newline=""))] == ["'=1+1", "'=1+1"]


def test_rules_are_read_and_explained(still: Client) -> None:
    names = [rule["name"] for rule in still.get("/rules")["items"]]
    assert still.order("/rules/check", {})[1] == {"is_right": True, "names": names, "problem": None}
    status, told = still.order("/rules/check", {"rules": [{"name": "x", "when": {"modalty": "CT"}, "run": []}]})
    assert (status, told["is_right"], told["problem"]["code"]) == (200, False, "rule-invalid")
    explained = still.order("/rules/explain", {"study_instance_uid": still.has.studies[0]})[1]
    assert (explained["decisions"][0]["outcome"], explained["lines"][0]) == ("match", "a rule: match")
    assert still.order("/rules/explain", {"study_instance_uid": "9.9"})[0] == 404


def test_models_and_pipelines_are_told_and_switched(client: Client) -> None:
    assert client.get("/models/ct-nodules")["used_by"] == ["lung_nodules"]
    assert client.order("/models/ct-nodules/verify")[1]["is_right"] is True
    status, told = client.order("/pipelines/lung_nodules/switch", {"mode": "off", "reason": "test"})
    assert (status, told["canceled"], told["pipeline"]["mode"]) == (200, 1, "off")
    assert client.order("/pipelines/lung_nodules/switch", {"mode": "off"})[0] == 409
    assert client.site.told[-1].kind == "pipeline-switched"
    assert [one["mode"] for one in client.get("/pipelines")["items"]] == ["off", "on", "on"]


def test_the_trail_is_read_and_proven(client: Client) -> None:
    trail = open_trail(client.site.services.settings)
    for _ in range(3):
        trail.append(security_alert(stranger_refused("192.0.2.1")))
    trail.close()
    assert [record["sequence"] for record in client.walk("/audit/records?limit=2")] == [3, 2, 1]
    assert client.walk("/audit/records?kind=none") == []
    assert client.site.told[-1].kind == "audit-log-used"
    client.site.told.clear()
    proof = client.order("/audit/verify", {})[1]
    assert [event.kind for event in client.site.told] == ["audit-log-used"]
    assert (proof["is_whole"], proof["records"]) == (True, 3)
    assert client.order("/audit/verify", {"holds": "0" * 64})[1]["is_whole"] is False


def test_settings_hide_what_is_secret(tmp_path: Path) -> None:
    environment = {
        "RADNODE__ALARMS__WEBHOOK": "https://hook.example/CANARY",
        "RADNODE__DESTINATIONS": '{ web = { transport = "stow", url = "https://user:CANARY@pacs.example/dicom" } }',
    }
    with website(tmp_path, environment, rights=frozenset({Right.MANAGE})) as site:
        response, content = site.ask("GET", f"{API}/settings")
    assert response.status == 200
    assert b"CANARY" not in content
    assert json.loads(content)["settings"]["destinations"]["web"]["url"] == "https://********@pacs.example/dicom"
    assert "destinations" in str(json.loads(content)["origins"])


def test_users_and_tokens_come_and_go(client: Client) -> None:
    status, link = client.order("/users", {"name": "Reader", "role": "viewer"})
    assert (status, link["name"], link["path"].startswith("/welcome/")) == (201, "reader", True)
    assert client.order("/users", {"name": "reader", "role": "viewer"})[0] == 409
    assert client.order("/users/reader/change", {"role": "operator", "is_disabled": True})[1]["is_disabled"] is True
    assert client.ask("DELETE", "/users/reader")[0].status == 204
    assert client.get("/users")["items"] == []
    status, made = client.order("/tokens", {"name": "robot", "scopes": ["read"], "days": 1})
    shown = {"Authorization": f"Bearer {made['token']}"}
    assert (status, client.ask("GET", "/about", headers=shown)[0].status) == (201, 200)
    assert client.ask("DELETE", "/tokens/robot")[0].status == 204
    assert client.ask("GET", "/about", headers=shown)[0].status == 401


def test_a_token_gives_away_no_more_than_it_has(tmp_path: Path) -> None:
    with website(tmp_path, rights=frozenset({Right.MANAGE})) as site:
        body = json.dumps({"name": "more", "scopes": ["delete"]}).encode()
        response, _ = site.ask("POST", f"{API}/tokens", body=body, headers=JSON)
    assert response.status == 403


def test_a_token_makes_nobody_who_has_more_rights_than_it(tmp_path: Path, still: Client) -> None:
    with website(tmp_path, rights=frozenset(Right) - {Right.DELETE}) as site:
        client = replace(still, site=site)
        for name, role in (("boss", Role.ADMIN), ("deputy", Role.ADMIN), ("reader", Role.VIEWER)):
            site.services.registry.add_user(name, role, password=None, by="test")
        assert client.order("/users", {"name": "mallory", "role": "admin"})[0] == 403
        assert client.order("/users/reader/change", {"role": "admin"})[0] == 403
        assert client.order("/users/boss/change", {"is_disabled": True})[0] == 403
        assert client.order("/users/boss/link")[0] == 403
        assert client.ask("DELETE", "/users/boss")[0].status == 403
        assert client.order("/users/reader/link")[0] == 201
        assert [user["role"] for user in client.get("/users")["items"]] == ["admin", "admin", "viewer"]


def test_the_description_is_for_whoever_may_read(tmp_path: Path) -> None:
    with website(tmp_path, rights=frozenset()) as site:
        assert site.ask("GET", f"{API}/openapi.json")[0].status == 401


def test_the_last_admin_stays_one(tmp_path: Path, still: Client) -> None:
    with website(tmp_path, rights=frozenset(Right)) as site:
        client = replace(still, site=site)
        site.services.registry.add_user("boss", Role.ADMIN, password=None, by="test")
        assert client.order("/users/boss/change", {"is_disabled": True})[0] == 409
        assert client.ask("DELETE", "/users/boss")[0].status == 409


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_an_operation_is_refused_without_its_right(
    still: Client, method: str, path: str, operation: Mapping[str, Any]
) -> None:
    right = Right(operation["x-radnode-right"])
    name = f"all-but-{operation['operationId'].replace('_', '-')}"
    order = TokenOrder(name=name, scopes=frozenset(Right) - {right})
    token = still.site.services.registry.add_token(order, by="test")
    filled = path
    for parameter in operation.get("parameters", []):
        value = {"job_id": still.has.completed.job_id, "delivery_id": "1", "number": "1"}.get(parameter["name"], "1.2")
        filled = filled.replace(f"{{{parameter['name']}}}", value)
    body = b"{}" if "requestBody" in operation else b""
    response, content = still.site.ask(
        method.upper(), filled, body=body, headers={**(JSON if body else {}), "Authorization": f"Bearer {token}"}
    )
    assert (response.status, json.loads(content)["code"]) == (403, "not-authorized")


def test_a_table_holds_everything_and_computes_nothing(still: Client) -> None:
    response, content = still.ask("GET", "/studies", headers={"Accept": "text/csv"})
    assert response.headers["Content-Type"].startswith("text/csv")
    text = content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(still.has.studies)
    assert f"'{PATIENT}" in {row["patient_name"] for row in rows}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    limited = still.ask("GET", "/jobs?limit=2", headers={"Accept": "text/csv"})[1]
    assert len(limited.splitlines()) == 3
    assert still.ask("GET", "/deliveries", headers={"Accept": "text/csv"})[0].status == 200
    assert still.ask("GET", "/jobs", headers={"Accept": "image/png"})[0].status == 406


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"destination=pacs", 415),
        ({"Content-Type": "text/plain"}, b"", 415),
        ({}, b"{}", 415),
        ({"Content-Type": "nonsense"}, b"{}", 400),
        ({**JSON, "Content-Encoding": "gzip"}, b"\x1f\x8b", 415),
        (JSON, b"{", 400),
        (JSON, b"[]", 400),
        (JSON, b"\xff\xfe", 400),
        (JSON, b'{"destination": "' + b"x" * 70_000 + b'"}', 413),
        (JSON, b'{"destination": "a\\u0000b"}', 400),
        (JSON, b"[" * 20_000, 400),
    ],
)
def test_what_is_no_order_is_refused(still: Client, headers: Mapping[str, str], body: bytes, status: int) -> None:
    response, content = still.site.ask("POST", f"{API}/deliveries/retry", body=body, headers=headers)
    assert (response.status, json.loads(content)["status"]) == (status, status)


def test_a_path_tells_which_methods_it_has(still: Client) -> None:
    for method in ("PUT", "PATCH", "POST", "TRACE"):
        response, content = still.ask(method, f"/studies/{still.has.studies[0]}")
        assert (response.status, response.headers["Allow"]) == (405, "DELETE, GET, HEAD")
        assert json.loads(content)["code"] == "method-not-allowed"
    assert still.ask("HEAD", "/jobs")[0].status == 200


def test_nobody_asks_without_a_token(tmp_path: Path) -> None:
    with website(tmp_path, rights=frozenset()) as site:
        response, content = site.ask("GET", f"{API}/studies")
    assert (response.status, json.loads(content)["code"]) == (401, "not-authenticated")
    assert "Bearer" in response.headers["WWW-Authenticate"]


def test_a_view_of_a_patient_is_recorded(client: Client) -> None:
    study = client.has.studies[0]
    client.get(f"/studies/{study}")
    client.get("/studies?patient_id=P0")
    client.site.services.witnessing.stop()
    kinds = {event.kind: event for event in client.site.told}
    assert {"study-viewed", "studies-searched"} <= set(kinds)
    assert "P0" not in kinds["studies-searched"].text


def tells_of_studies(schema: Any) -> bool:
    """Return whether a part of the description holds a Study Instance UID, however deep."""
    if isinstance(schema, list):
        return any(map(tells_of_studies, schema))
    if not isinstance(schema, dict):
        return False
    if "$ref" in schema:
        return tells_of_studies(DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return "study_instance_uid" in schema.get("properties", {}) or any(map(tells_of_studies, schema.values()))


TELLING = [
    pytest.param(path, operation, id=operation["operationId"])
    for path, operations in DESCRIPTION["paths"].items()
    for method, operation in operations.items()
    if method == "get" and tells_of_studies(operation["responses"]["200"].get("content"))
]


@pytest.mark.parametrize(("path", "operation"), TELLING)
def test_whatever_tells_of_studies_is_recorded(still: Client, path: str, operation: Mapping[str, Any]) -> None:
    study, job = still.has.studies[0], still.has.completed.job_id
    result = still.get(f"/results?study={study}")["items"][0]["result"]["sop_instance_uid"]
    values = {"{study_instance_uid}": study, "{job_id}": job, "{sop_instance_uid}": result}
    for name, value in values.items():
        path = path.replace(name, value)
    names = {parameter["name"] for parameter in operation["parameters"]}
    searches = {f"{path}?study={study}": "study-viewed"} if "study" in names else {}
    listing = "studies-searched" if operation["operationId"] in {"list_studies", "list_events"} else "study-viewed"
    for number, (asked, kind) in enumerate({path: listing, **searches}.items()):
        wait_for_record(still, kind, of=asked, by=f"{operation['operationId'].replace('_', '-')}-{number}", study=study)


def wait_for_record(client: Client, kind: str, *, of: str, by: str, study: str) -> None:
    """Wait for a record of one kind, of one Study or none, when somebody new asks for one thing."""
    order = TokenOrder(name=by, scopes=frozenset(Right))
    token = client.site.services.registry.add_token(order, by="test")
    response, content = client.site.ask("GET", of, headers={"Authorization": f"Bearer {token}"})
    assert response.status == 200, content

    def kinds() -> set[str]:
        mine = [event for event in list(client.site.told) if event.facts.get("visitor") == f"token {by}"]
        return {event.kind for event in mine if event.facts.get("study_instance_uid", study) == study}

    wait_until(lambda: kind in kinds(), what=f"the record {kind} of {of}")


def test_an_order_that_tells_findings_is_a_view(client: Client) -> None:
    client.order(f"/jobs/{client.has.waiting.job_id}/cancel")
    client.order(f"/jobs/{client.has.canceled.job_id}/retry")
    client.order("/rules/explain", {"study_instance_uid": client.has.studies[0]})
    client.site.services.witnessing.stop()
    viewed = {event.facts["study_instance_uid"] for event in client.site.told if event.kind == "study-viewed"}
    assert viewed == set(client.has.studies[:3])


def test_a_table_that_leaves_is_a_record_each_time(client: Client) -> None:
    for _ in range(2):
        for noun in ("studies", "jobs", "deliveries"):
            client.ask("GET", f"/{noun}?limit=2", headers={"Accept": "text/csv"})
    client.site.ask("GET", "/feedback.csv")
    client.site.services.witnessing.stop()
    told = [event for event in client.site.told if event.kind == "table-exported"]
    tables = [("studies", 2), ("jobs", 2), ("deliveries", 2)]
    assert [(event.facts["table"], event.facts["rows"]) for event in told] == [
        *tables,
        *tables,
        ("radnode-feedback", 0),
    ]
    assert {event.facts["visitor"] for event in told} == {f"token {token_name(client)}"}


# What docs/accounts.md says that a role may, and the operation that is it.
SAID = {
    "see Studies": "list_studies", "retry": "retry_job", "reprocess": "reprocess_study", "cancel": "cancel_job",
    "test a Destination": "try_destination", "delete": "purge_study", "switch models": "switch_pipeline",
    "see settings": "get_settings", "audit trail": "list_records",
}  # fmt: skip


@pytest.mark.parametrize(("words", "operation_id"), SAID.items())
def test_a_role_may_do_what_the_documents_say(words: str, operation_id: str) -> None:
    page = (DOCUMENT.parent / "accounts.md").read_text(encoding="utf-8")
    rows = {role: re.search(rf"^\| `{role.value}` \| (.*) \|$", page, re.MULTILINE) for role in Role}
    said = next(role for role, row in rows.items() if row is not None and words in row[1])
    operations = [one for path in DESCRIPTION["paths"].values() for one in path.values()]
    (right,) = (Right(one["x-radnode-right"]) for one in operations if one["operationId"] == operation_id)
    assert said is next(role for role in Role if right in RIGHTS[role])


def test_a_name_that_is_a_page_is_told_as_it_is(still: Client) -> None:
    response, content = still.ask("GET", "/studies")
    assert response.headers["Content-Type"] == "application/json"
    assert PATIENT in {study["patient_name"] for study in json.loads(content)["items"]}


def test_examples_are_as_described() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    shown = {name: schema["examples"] for name, schema in schemas.items() if "examples" in schema}
    for name, examples in shown.items():
        validator = Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}})
        for example in examples:
            validator.validate(example)


def test_every_operation_is_described_for_people() -> None:
    operations = [one for path in DESCRIPTION["paths"].values() for one in path.values()]
    identifiers = [operation["operationId"] for operation in operations]
    assert len(set(identifiers)) == len(identifiers)
    tags = {tag["name"] for tag in DESCRIPTION["tags"]}
    for operation in operations:
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
        assert operation["security"]
        assert "422" not in operation["responses"]
        assert {"400", "401", "403", "default"} <= set(operation["responses"])
