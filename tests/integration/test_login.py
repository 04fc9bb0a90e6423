"""Logging in as browsers do it, and as those who should not come in try to."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlencode

import pytest

from node.accounts.doorkeeper import OF_ADDRESS, Attempt
from node.accounts.registry import TokenOrder
from node.audit.message import AuditEvent
from node.domain.account import Right, Role
from node.errors import LoginRefused, NodeError, TooManyLogins
from node.ledger.logins import LoginLedger
from node.web.rights import PLAIN_COOKIE
from tests.websites import Website, website

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HTML = {"Accept": "text/html,*/*;q=0.8"}
PASSWORD = "five words of my own"
NEVER = "this is not what it was"
CLOCK = datetime(2026, 1, 14, 12, tzinfo=UTC)
SECRET = re.compile(rf"{PLAIN_COOKIE}=([^;]+)")


class Wound:
    """A clock that a test puts on."""

    def __init__(self) -> None:
        self.now = CLOCK

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Wound:
    return Wound()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, clock: Wound) -> Iterator[Website]:
    """Return a site where nobody is let in without a login; ada is a viewer, carl an admin as the deputy is."""
    settings = {"RADNODE__NODE__DIMSE_TIMEOUT_S": "1"}
    with website(tmp_path_factory.mktemp("site"), settings, rights=frozenset(), clock=clock) as running:
        running.services.registry.add_user("deputy", Role.ADMIN, password=None, by="test")
        running.services.registry.add_user("ada", Role.VIEWER, password=PASSWORD, by="test")
        running.services.registry.add_user("carl", Role.ADMIN, password=PASSWORD, by="test")
        yield running


def post(
    site: Website, path: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> tuple[HTTPResponse, str]:
    response, content = site.ask("POST", path, body=urlencode(fields).encode(), headers={**FORM, **(headers or {})})
    return response, content.decode()


def log_in(site: Website, name: str = "ada", password: str = PASSWORD, **more: str) -> tuple[HTTPResponse, str]:
    return post(site, "/login", {"name": name, "password": password, **more})


def session_of(response: HTTPResponse) -> str:
    found = SECRET.search(response.getheader("Set-Cookie") or "")
    assert found is not None
    return found[1]


def cookie(secret: str) -> dict[str, str]:
    return {"Cookie": f"{PLAIN_COOKIE}={secret}"}


def csrf_on(site: Website, secret: str) -> str:
    """Return what the page of a session sends back."""
    _, page = site.ask("GET", "/password", headers={**cookie(secret), **HTML})
    found = re.search(r'name="csrf" value="([^"]+)"', page.decode())
    assert found is not None
    return found[1]


def told(site: Website) -> list[AuditEvent]:
    """Return what the trail was told of logins; of searches it is told, too."""
    return [event for event in site.told if event.kind in {"logged-in", "login-failed", "logged-out"}]


def status_of(site: Website, secret: str) -> int:
    return site.ask("GET", "/dicom-web/studies", headers=cookie(secret))[0].status


def test_a_page_leads_to_the_login_and_from_there_back(site: Website) -> None:
    response, _ = site.ask("GET", "/password?a=1&b=%2F", headers=HTML)
    assert (response.status, response.getheader("Location")) == (303, "/login?next=/password")
    _, page = site.ask("GET", response.getheader("Location") or "", headers=HTML)
    assert 'name="next" value="/password"' in page.decode()
    response, _ = log_in(site, next="/password?a=1&b=%2F")
    assert (response.status, response.getheader("Location")) == (303, "/password?a=1&b=%2F")
    said = response.getheader("Set-Cookie") or ""
    assert "HttpOnly" in said
    assert "SameSite=lax" in said
    assert "Path=/" in said
    assert status_of(site, session_of(response)) == 200
    assert told(site)[-1].kind == "logged-in"


def test_what_was_searched_stands_in_no_address_of_the_login(site: Website) -> None:
    response, _ = site.ask("GET", "/?q=CANARY", headers=HTML)
    assert (response.status, response.getheader("Location")) == (303, "/login?next=/")


def test_a_program_is_told_what_to_show(site: Website) -> None:
    response, content = site.ask("GET", "/dicom-web/studies", headers=HTML)
    assert (response.status, response.getheader("Content-Type")) == (401, "application/problem+json")
    assert b"not-authenticated" in content
    assert response.msg.get_all("WWW-Authenticate") == ['Bearer realm="radnode"', 'Basic realm="radnode"']
    # A browser would ask the person for a password that is none.
    response, _ = site.ask("GET", "/dicom-web/studies", headers={"Sec-Fetch-Mode": "cors"})
    assert response.msg.get_all("WWW-Authenticate") == ['Bearer realm="radnode"']


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/static/console.css", "/login"])
def test_what_needs_no_login(site: Website, path: str) -> None:
    assert site.ask("GET", path)[0].status == 200


@pytest.mark.parametrize(
    "way",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/a\r\nX-Evil: 1",
        "",
        "logged-in",
    ],
)
def test_a_login_leads_to_no_other_host(site: Website, way: str) -> None:
    response, _ = log_in(site, next=way)
    assert (response.status, response.getheader("Location")) == (303, "/")
    assert response.getheader("X-Evil") is None
    response, _ = site.ask("GET", f"/login?{urlencode({'next': way})}", headers=cookie(session_of(response)))
    assert response.getheader("Location") == "/"


def test_an_unknown_name_and_a_wrong_password_are_told_apart_by_nobody(site: Website) -> None:
    answers = [log_in(site, name, NEVER) for name in ("ada", "nobody-of-this-name")]
    pages = [page.replace(name, "") for (_, page), name in zip(answers, ("ada", "nobody-of-this-name"), strict=True)]
    assert [response.status for response, _ in answers] == [403, 403]
    assert pages[0] == pages[1]
    assert "Name or password is not right." in pages[0]
    # What was typed as a name may be a password; the trail has it only where it is somebody's name.
    assert [event.facts["user"] for event in told(site)[-2:]] == ["ada", "unknown"]
    assert NEVER not in repr(site.told)


def test_a_session_from_before_the_login_is_not_the_one_after_it(site: Website) -> None:
    planted = "x" * 43
    response, _ = post(site, "/login", {"name": "ada", "password": PASSWORD}, cookie(planted))
    assert session_of(response) != planted
    assert status_of(site, planted) == 401
    first = session_of(response)
    response, _ = post(site, "/login", {"name": "ada", "password": PASSWORD}, cookie(first))
    assert (status_of(site, first), status_of(site, session_of(response))) == (401, 200)


def test_logging_out_ends_the_session_here_too(site: Website) -> None:
    secret = session_of(log_in(site)[0])
    csrf = csrf_on(site, secret)
    response, _ = post(site, "/logout", {"csrf": csrf}, cookie(secret))
    assert (response.status, response.getheader("Location")) == (303, "/login")
    assert 'radnode=""' in (response.getheader("Set-Cookie") or "")
    assert status_of(site, secret) == 401
    assert told(site)[-1].kind == "logged-out"


def test_no_other_site_logs_a_person_out(site: Website) -> None:
    secret = session_of(log_in(site)[0])
    own, other = csrf_on(site, secret), csrf_on(site, session_of(log_in(site)[0]))
    here = f"http://127.0.0.1:{site.port}"
    for fields, headers in (
        ({}, {}),
        ({"csrf": ""}, {}),
        ({"csrf": other}, {}),
        ({"csrf": own}, {"Origin": "https://evil.example"}),
        ({"csrf": own}, {"Origin": "null"}),
        ({"csrf": own}, {"Origin": "http://["}),
        ({"csrf": own}, {"Origin": here, "Sec-Fetch-Site": "cross-site"}),
        ({"csrf": own}, {"Sec-Fetch-Site": "same-site"}),
        ({"csrf": own}, {"Content-Type": "text/plain"}),
        ({"csrf": own, "padding": "x" * 300_000}, {}),
    ):
        response, content = post(site, "/logout", fields, {**cookie(secret), **headers})
        assert response.status in {403, 413}, (fields, headers)
        assert "forged-request" in content or "too-large" in content
    assert status_of(site, secret) == 200
    response, _ = post(site, "/logout", {}, {**cookie(secret), "Origin": here, "X-CSRF-Token": own})
    assert response.status == 303


def test_no_other_site_logs_a_person_in(site: Website) -> None:
    response, _ = post(site, "/login", {"name": "ada", "password": PASSWORD}, {"Origin": "https://evil.example"})
    assert response.status == 403
    assert response.getheader("Set-Cookie") is None


@pytest.mark.parametrize("secret", ["", "x", "x" * 43, "../../etc/passwd", "x" * 20_000, "%00", '"; DROP TABLE'])
def test_a_made_up_session_is_none(site: Website, secret: str) -> None:
    assert status_of(site, secret) == 401


def test_a_session_ends_by_idleness_and_by_age(site: Website, clock: Wound) -> None:
    secret = session_of(log_in(site)[0])
    for _ in range(16):
        clock.now += timedelta(hours=11)
        if clock.now - CLOCK >= timedelta(days=7):
            break
        assert status_of(site, secret) == 200
    assert status_of(site, secret) == 401
    idle = session_of(log_in(site)[0])
    clock.now += timedelta(hours=12)
    assert status_of(site, idle) == 401


def test_a_session_ends_although_its_page_is_open(site: Website, clock: Wound) -> None:
    secret = session_of(log_in(site)[0])
    for _ in range(2):
        clock.now += timedelta(hours=5)
        by_itself = {**cookie(secret), "X-Live": "1"}
        assert site.ask("GET", "/password", headers=by_itself)[0].status == 200
        with site.connect() as stream:
            stream.sendall(f"GET /live HTTP/1.1\r\nHost: localhost\r\nCookie: {PLAIN_COOKIE}={secret}\r\n\r\n".encode())
            assert stream.recv(65536).startswith(b"HTTP/1.1 200 ")
    clock.now += timedelta(hours=2)
    assert status_of(site, secret) == 401


@pytest.mark.parametrize("path", ["/login", "/welcome/x", "/logout", "/api/v1/users"])
def test_a_body_that_does_not_come_keeps_no_connection(site: Website, path: str) -> None:
    """Not even one that comes byte by byte, and whoever shows a made-up session gets no further."""
    shown = f"Cookie: {PLAIN_COOKIE}={'x' * 43}\r\n" if path == "/logout" else ""
    kind = "application/json" if "api" in path else FORM["Content-Type"]
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{shown}Content-Type: {kind}\r\nContent-Length: 100\r\n\r\n"
    with site.connect() as connection:
        connection.sendall(head.encode() + b"n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    # The API asks who it is before it reads anything.
    assert int(answer.split(b" ", 2)[1]) == (401 if "api" in path else 408)
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("name", ["a\x00b", "ada\x00", "\x1b[2J", "\x7f"])
def test_control_characters_are_nobodys_name(site: Website, name: str) -> None:
    response, content = log_in(site, name)
    assert (response.status, "request-malformed" in content) == (400, True)


def test_a_name_that_cannot_be_one_is_asked_of_no_database(site: Website) -> None:
    with pytest.raises(LoginRefused, match="name or password is not right"):
        site.services.doorkeeper.prove(Attempt(name="a\x00b", password=PASSWORD, address="192.0.2.99"))
    assert told(site)[-1].facts["user"] == "unknown"


def test_all_addresses_of_one_ipv6_network_are_counted_as_one(site: Website, clock: Wound) -> None:
    clock.now += timedelta(days=2)
    refused: list[type[NodeError]] = []
    for number in range(OF_ADDRESS.free + 1):
        attempt = Attempt(name=f"nobody-{number}", password=NEVER, address=f"2001:db8:1:2::{number:x}")
        with pytest.raises(NodeError) as caught:
            site.services.doorkeeper.prove(attempt)
        refused.append(caught.type)
    assert refused == [LoginRefused] * OF_ADDRESS.free + [TooManyLogins]
    with pytest.raises(LoginRefused):
        site.services.doorkeeper.prove(Attempt(name="nobody", password=NEVER, address="2001:db8:1:3::1"))


def test_guessing_is_slowed_by_name_and_the_right_one_waits_too(site: Website, clock: Wound) -> None:
    clock.now += timedelta(days=2)
    assert [log_in(site, "carl", NEVER)[0].status for _ in range(6)] == [403] * 5 + [429]
    response, page = log_in(site, "carl")
    assert response.status == 429
    assert "Too many tries; the next one counts at" in page
    # A name that nobody has is slowed alike, and other people are not.
    assert [log_in(site, "nobody-else", NEVER)[0].status for _ in range(6)] == [403] * 5 + [429]
    assert log_in(site, "ada")[0].status == 303
    clock.now += timedelta(minutes=1)
    assert log_in(site, "carl", NEVER)[0].status == 403
    clock.now += timedelta(minutes=1, seconds=59)
    assert log_in(site, "carl")[0].status == 429
    clock.now += timedelta(seconds=1)
    assert log_in(site, "carl")[0].status == 303
    assert log_in(site, "carl", NEVER)[0].status == 403
    assert log_in(site, "carl")[0].status == 303


def test_guessing_names_is_slowed_by_address(site: Website, clock: Wound) -> None:
    clock.now += timedelta(days=2)
    failures = LoginLedger(site.services.engine)
    for _ in range(OF_ADDRESS.free - 1):
        assert failures.begin_try({"address 127.0.0.1": OF_ADDRESS}, now=clock.now) is None
    assert [log_in(site, name, NEVER)[0].status for name in ("one", "two")] == [403, 429]
    assert log_in(site, "ada")[0].status == 429
    clock.now += timedelta(days=2)


def test_a_person_sets_another_password_and_all_their_sessions_end(site: Website) -> None:
    here, elsewhere = (session_of(log_in(site)[0]) for _ in range(2))
    csrf = csrf_on(site, here)
    fields = {
        "csrf": csrf,
        "old": PASSWORD,
        "password": "quite another set of words",
        "again": "quite another set of words",
    }
    for change, status in (
        ({"old": NEVER}, 403),
        ({"again": "something else entirely"}, 422),
        ({"password": "too short", "again": "too short"}, 422),
        ({"password": "aaaaaaaaaaaaaa", "again": "aaaaaaaaaaaaaa"}, 422),
        ({"password": "ada-ada-ada-1", "again": "ada-ada-ada-1"}, 422),
    ):
        response, page = post(site, "/password", {**fields, **change}, cookie(here))
        assert (response.status, 'role="alert"' in page) == (status, True), change
    response, _ = post(site, "/password", fields, cookie(here))
    assert response.status == 303
    assert (status_of(site, here), status_of(site, elsewhere), status_of(site, session_of(response))) == (401, 401, 200)
    assert log_in(site)[0].status == 403
    site.services.registry.set_password("ada", PASSWORD, by="test")


def test_somebody_disabled_is_out_at_once(site: Website) -> None:
    secret = session_of(log_in(site, "carl")[0])
    site.services.registry.set_disabled("carl", is_disabled=True, by="test")
    assert status_of(site, secret) == 401
    response, page = log_in(site, "carl")
    assert (response.status, "Name or password is not right." in page) == (403, True)
    site.services.registry.set_disabled("carl", is_disabled=False, by="test")
    assert status_of(site, secret) == 401


def test_a_role_is_what_it_may_do(site: Website) -> None:
    secret = session_of(log_in(site)[0])
    response, content = site.ask("GET", "/dicom-web/studies", headers=cookie(secret))
    assert response.status == 200
    headers = {**cookie(secret), "X-CSRF-Token": csrf_on(site, secret), "Content-Type": "application/dicom"}
    response, content = site.ask("POST", "/dicom-web/studies", body=b"x", headers=headers)
    assert response.status == 403
    assert b"needs the right to store" in content


def test_a_page_may_not_be_framed_nor_kept(site: Website) -> None:
    response, _ = site.ask("GET", "/login")
    policy = response.getheader("Content-Security-Policy") or ""
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.getheader("Cache-Control") == "no-store"
    assert response.getheader("X-Content-Type-Options") == "nosniff"


def test_a_user_without_a_password_is_not_let_in_by_an_empty_one(site: Website) -> None:
    site.services.registry.add_user("eve", Role.ADMIN, password=None, by="test")
    assert log_in(site, "eve", "")[0].status == 403


def test_before_the_first_user_only_the_link_of_the_start_leads_in(tmp_path: Path) -> None:
    with website(tmp_path, rights=frozenset()) as site:
        registry = site.services.registry
        assert "radnode up" in site.ask("GET", "/login")[1].decode()
        assert site.ask("GET", "/dicom-web/studies")[0].status == 401
        older, link = (registry.link_for(None, by="test") for _ in range(2))
        assert site.ask("GET", f"/welcome/{older}")[0].status == 404
        assert "Make the first account" in site.ask("GET", f"/welcome/{link}")[1].decode()
        fields = {"name": "Ada", "password": PASSWORD, "again": PASSWORD}
        for wrong in ({"name": "<script>"}, {"password": "short", "again": "short"}, {"again": NEVER}):
            response, page = post(site, f"/welcome/{link}", {**fields, **wrong})
            assert response.status == 422
            assert "<script>alert" not in page
        response, _ = post(site, f"/welcome/{link}", fields)
        assert response.status == 303
        assert status_of(site, session_of(response)) == 200
        assert [(user.name, user.role) for user in registry.users()] == [("ada", Role.ADMIN)]
        # It is used up, and a second one can no longer be what it was.
        assert post(site, f"/welcome/{link}", {**fields, "name": "mallory"})[0].status == 404
        late = registry.link_for(None, by="test")
        assert post(site, f"/welcome/{late}", {**fields, "name": "mallory"})[0].status == 404


def test_a_link_sets_the_password_of_one_user_once_and_for_a_day(site: Website, clock: Wound) -> None:
    registry = site.services.registry
    registry.add_user("dora", Role.VIEWER, password=None, by="test")
    link = registry.link_for("dora", by="test")
    clock.now += timedelta(hours=24)
    assert site.ask("GET", f"/welcome/{link}")[0].status == 404
    link = registry.link_for("dora", by="test")
    fields = {"name": "carl", "password": PASSWORD, "again": PASSWORD}
    assert post(site, f"/welcome/{link}", fields)[0].status == 303
    assert log_in(site, "dora")[0].status == 303
    assert post(site, f"/welcome/{link}", fields)[0].status == 404


def test_a_token_is_good_for_its_scopes_and_its_time(site: Website, clock: Wound) -> None:
    order = TokenOrder(name="gateway", scopes=frozenset({Right.READ}), life=timedelta(days=1))
    token = site.services.registry.add_token(order, by="test")
    bearer = {"Authorization": f"Bearer {token}"}
    assert site.ask("GET", "/dicom-web/studies", headers=bearer)[0].status == 200
    assert site.ask("POST", "/dicom-web/studies", body=b"x", headers=bearer)[0].status == 403
    # Whoever has a token has no form, and no session beside it counts.
    assert site.ask("GET", "/password", headers=bearer)[0].status == 403
    forged = {**bearer, **cookie(session_of(log_in(site, "carl")[0]))}
    assert site.ask("POST", "/dicom-web/studies", body=b"x", headers=forged)[0].status == 403
    clock.now += timedelta(days=1)
    assert site.ask("GET", "/dicom-web/studies", headers=bearer)[0].status == 401


def test_basic_takes_a_token_and_no_password(site: Website) -> None:
    token = site.services.registry.add_token(TokenOrder(name="old-client", scopes=frozenset({Right.READ})), by="test")

    def ask(shown: bytes) -> int:
        headers = {"Authorization": f"Basic {b64encode(shown).decode()}"}
        return site.ask("GET", "/dicom-web/studies", headers=headers)[0].status

    assert ask(b"whoever:" + token.encode()) == 200
    assert ask(f"ada:{PASSWORD}".encode()) == 401
    assert ask(b"\xff\xfe:\x00") == 401
    for shown in ("Basic ===", "Basic", "Bearer", "Bearer  ", "Digest a=b", "Bearer " + "x" * 10_000):
        response, content = site.ask("GET", "/dicom-web/studies", headers={"Authorization": shown})
        assert (response.status, b"not-authenticated" in content) == (401, True), shown
    site.services.registry.revoke_token("old-client", by="test")
    assert ask(b"whoever:" + token.encode()) == 401


def test_no_secret_stands_in_the_ledger_or_the_trail(site: Website) -> None:
    secret = session_of(log_in(site)[0])
    link = site.services.registry.link_for("ada", by="test")
    kept = (site.folder / "ledger.sqlite").read_bytes() if (site.folder / "ledger.sqlite").exists() else b""
    kept += b"".join(path.read_bytes() for path in site.folder.glob("ledger.sqlite-wal"))
    for text in (PASSWORD, secret, link):
        assert text.encode() not in kept
        assert text not in repr(site.told)
    assert b"$argon2id$" in kept or not kept
