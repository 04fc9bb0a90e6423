"""Logins by an OpenID provider that runs and speaks HTTP, as a hospital has one."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from node.accounts.claims import RoleTerms, read_person
from node.accounts.doorkeeper import OF_ADDRESS
from node.accounts.provider import KEPT, STATE
from node.accounts.secret import derive
from node.clock import utc_now
from node.domain.account import Role
from node.ledger.logins import LoginLedger
from tests.peers import free_port, is_listening, wait_until
from tests.websites import Website, website

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CALLBACK = "/login/provider/callback"
TERMS = {"CLIENT_ID": "radnode", "ADMINS": '["boss"]'}
COOKIE = re.compile(r"(radnode(?:-login)?)=([^;]+)")


class Wound:
    """The right time, unless a test sets it ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class Hospital:
    """A provider in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(self.port)]
        with (folder / "provider.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: is_listening(self.port), what="the provider")

    def employ(self, subject: str, **claims: object) -> None:
        """Let the provider know somebody."""
        self._ask("PUT", f"/users/{subject}", json.dumps(claims).encode(), {"Content-Type": "application/json"})

    def decide(self, url: str, **fields: str) -> str:
        """Log in, or refuse to, at the page to which somebody was sent; returns where that sends them."""
        place = urlsplit(url)
        response = self._ask("POST", f"{place.path}?{place.query}", urlencode(fields).encode(), FORM)
        back = urlsplit(response.getheader("Location") or "")
        return f"{back.path}?{back.query}"

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60.0)
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status < 400, response.status
        return response


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    running = Hospital(tmp_path_factory.mktemp("provider"))
    yield running
    running.process.terminate()
    running.process.wait()


@pytest.fixture(scope="module")
def clock() -> Wound:
    return Wound()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hospital: Hospital, clock: Wound) -> Iterator[Website]:
    names = ("ISSUER", "CLIENT_ID", "CLIENT_SECRET", "ADMINS", "OPERATORS", "VIEWERS")
    values = (hospital.issuer, "radnode", "secret", '["boss"]', '["staff", "night"]', '["reader"]')
    told = {f"RADNODE__WEB__OIDC__{name}": value for name, value in zip(names, values, strict=True)}
    with website(tmp_path_factory.mktemp("site"), told, rights=frozenset(), clock=clock) as running:
        running.services.registry.add_user("deputy", Role.ADMIN, password=None, by="test")
        yield running


def begin(site: Website, way: str = "/") -> tuple[str, dict[str, str]]:
    """Return where a browser is sent, and the cookie that it keeps meanwhile."""
    response, _ = site.ask("GET", f"/login/provider?{urlencode({'next': way})}")
    assert response.status == 303
    return response.getheader("Location") or "", cookies_of(response)


def cookies_of(response: HTTPResponse) -> dict[str, str]:
    said = (COOKIE.match(line) for line in response.msg.get_all("Set-Cookie") or ())
    return {"Cookie": "; ".join(f"{found[1]}={found[2]}" for found in said if found and found[2] != '""')}


def log_in(site: Website, hospital: Hospital, subject: str, way: str = "/") -> tuple[HTTPResponse, str]:
    url, cookie = begin(site, way)
    response, page = site.ask("GET", hospital.decide(url, sub=subject), headers=cookie)
    return response, page.decode()


def role_of(site: Website, name: str) -> Role | None:
    return next((user.role for user in site.services.registry.users() if user.name == name), None)


def test_somebody_with_a_role_comes_in_and_is_known_from_then_on(site: Website, hospital: Hospital) -> None:
    hospital.employ("s1", preferred_username="Grace.Hopper", groups=["everybody", "staff"])
    url, cookie = begin(site, "/studies?x=1")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert (asked["response_type"], asked["code_challenge_method"], asked["client_id"]) == ("code", "S256", "radnode")
    assert asked["redirect_uri"] == f"http://127.0.0.1:{site.port}{CALLBACK}"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"], cookie["Cookie"]}) == 4
    response, _ = site.ask("GET", hospital.decide(url, sub="s1"), headers=cookie)
    assert (response.status, response.getheader("Location")) == (303, "/studies?x=1")
    assert site.ask("GET", "/dicom-web/studies", headers=cookies_of(response))[0].status == 200
    assert role_of(site, "grace.hopper") is Role.OPERATOR
    kinds = [event.kind for event in site.told if event.kind in {"accounts-changed", "logged-in"}]
    assert kinds[-2:] == ["accounts-changed", "logged-in"]
    log_in(site, hospital, "s1")
    assert [user.name for user in site.services.registry.users()].count("grace.hopper") == 1


def test_the_role_is_that_of_today(site: Website, hospital: Hospital) -> None:
    hospital.employ("s2", preferred_username="lise", groups=["reader"])
    response, _ = log_in(site, hospital, "s2")
    assert role_of(site, "lise") is Role.VIEWER
    hospital.employ("s2", preferred_username="lise", groups=["reader", "boss"])
    log_in(site, hospital, "s2")
    assert role_of(site, "lise") is Role.ADMIN
    hospital.employ("s2", preferred_username="lise", groups=["visitor"])
    refused, page = log_in(site, hospital, "s2")
    assert (refused.status, "gives you no role here" in page) == (403, True)
    # What an earlier login has opened goes on until it ends by itself; a disabled user's ends at once.
    site.services.registry.set_disabled("lise", is_disabled=True, by="test")
    hospital.employ("s2", preferred_username="lise", groups=["boss"])
    assert log_in(site, hospital, "s2")[0].status == 403
    assert site.ask("GET", "/dicom-web/studies", headers=cookies_of(response))[0].status == 401


@pytest.mark.parametrize(
    "claims", [{}, {"groups": []}, {"groups": ["BOSS"]}, {"groups": {"boss": 1}}, {"groups": "bossy"}]
)
def test_somebody_without_a_role_stays_out_and_unknown(
    site: Website, hospital: Hospital, claims: Mapping[str, object]
) -> None:
    hospital.employ("s3", preferred_username="nobody", **claims)
    response, page = log_in(site, hospital, "s3")
    assert (response.status, cookies_of(response)) == (403, {"Cookie": ""})
    assert "no role here" in page
    assert role_of(site, "nobody") is None
    assert site.told[-1].kind == "login-failed"


def test_who_has_the_name_of_a_local_user_is_somebody_else(site: Website, hospital: Hospital) -> None:
    site.services.registry.add_user("carl", Role.ADMIN, password="five words of my own", by="test")
    hospital.employ("s4", preferred_username="carl", groups="reader")
    assert log_in(site, hospital, "s4")[0].status == 303
    names = {user.name: user.role for user in site.services.registry.users() if user.name.startswith("carl")}
    assert names.pop("carl") is Role.ADMIN
    assert list(names.values()) == [Role.VIEWER]


def test_an_answer_to_another_browser_is_none(site: Website, hospital: Hospital) -> None:
    hospital.employ("s5", preferred_username="mallory", groups=["boss"])
    url, cookie = begin(site)
    _, of_another = begin(site)
    back = hospital.decide(url, sub="s5")
    state = parse_qs(urlsplit(url).query)["state"][0]
    for path, headers in (
        (back, {}),
        (back, of_another),
        (back, {"Cookie": "radnode-login="}),
        (f"{CALLBACK}?code=x&state={derive('', STATE)}", {}),
        (back.replace(state, "x" * 43), cookie),
        (f"{CALLBACK}?code=x", cookie),
        (f"{back}&iss=https%3A%2F%2Fevil.example", cookie),
    ):
        response, page = site.ask("GET", path, headers=headers)
        assert (response.status, b"another" in page) == (403, True), path
        assert cookies_of(response) == {"Cookie": ""}
    assert role_of(site, "mallory") is None


def test_a_code_of_another_login_is_refused_by_its_nonce(site: Website, hospital: Hospital) -> None:
    """Somebody puts a code that was stolen into a login of their own: state fits, what the code stands for does not."""
    hospital.employ("s6", preferred_username="victim", groups=["boss"])
    theirs, _ = begin(site)
    stolen = parse_qs(urlsplit(hospital.decide(theirs, sub="s6")).query)["code"][0]
    mine, cookie = begin(site)
    state = parse_qs(urlsplit(mine).query)["state"][0]
    response, page = site.ask("GET", f"{CALLBACK}?{urlencode({'code': stolen, 'state': state})}", headers=cookie)
    assert (response.status, b"is not valid" in page) == (502, True)
    assert role_of(site, "victim") is None


def test_a_code_is_good_once(site: Website, hospital: Hospital) -> None:
    hospital.employ("s7", preferred_username="twice", groups=["reader"])
    url, cookie = begin(site)
    back = hospital.decide(url, sub="s7")
    assert site.ask("GET", back, headers=cookie)[0].status == 303
    response, page = site.ask("GET", back, headers=cookie)
    assert (response.status, b"invalid_grant" in page) == (403, True)


def test_a_token_of_long_ago_is_not_believed(site: Website, hospital: Hospital, clock: Wound) -> None:
    hospital.employ("s8", preferred_username="late", groups=["reader"])
    url, cookie = begin(site)
    back = hospital.decide(url, sub="s8")
    clock.ahead = timedelta(hours=2)
    response, page = site.ask("GET", back, headers=cookie)
    clock.ahead = timedelta(0)
    # That try was one of the future.
    LoginLedger(site.services.engine).forgive("address 127.0.0.1")
    assert (response.status, b"both clocks" in page) == (502, True)


def test_a_person_who_is_refused_there_is_told_so(site: Website, hospital: Hospital) -> None:
    url, cookie = begin(site)
    back = hospital.decide(url, action="deny")
    assert "error=access_denied" in back
    # This provider leaves out what RFC 6749 4.1.2.1 requires.
    back += "&" + urlencode({"state": parse_qs(urlsplit(url).query)["state"][0]})
    response, page = site.ask("GET", back, headers=cookie)
    assert (response.status, b"let nobody in" in page) == (403, True)


def test_a_provider_that_is_away_is_told_of_on_the_login_page(tmp_path: Path) -> None:
    away = {"ISSUER": f"http://127.0.0.1:{free_port()}", "CLIENT_ID": "radnode", "ADMINS": '["boss"]'}
    told = {f"RADNODE__WEB__OIDC__{name}": value for name, value in away.items()}
    with website(tmp_path, told, rights=frozenset()) as site:
        response, page = site.ask("GET", "/login/provider")
    assert (response.status, b"does not answer" in page) == (502, True)


def test_what_a_provider_says_of_itself_is_asked_for_every_few_minutes(tmp_path: Path) -> None:
    hospital, clock = Hospital(tmp_path), Wound()
    told = {f"RADNODE__WEB__OIDC__{name}": value for name, value in {**TERMS, "ISSUER": hospital.issuer}.items()}
    with website(tmp_path, told, rights=frozenset(), clock=clock) as site:
        try:
            begin(site)
        finally:
            hospital.process.terminate()
            hospital.process.wait()
        begin(site)
        clock.ahead = KEPT
        assert site.ask("GET", "/login/provider")[0].status == 502


def test_answers_that_fail_are_counted_by_address(tmp_path: Path) -> None:
    told = {f"RADNODE__WEB__OIDC__{name}": value for name, value in {**TERMS, "ISSUER": "http://127.0.0.1:9"}.items()}
    with website(tmp_path, told, rights=frozenset()) as site:
        statuses = [site.ask("GET", f"{CALLBACK}?code=x")[0].status for _ in range(OF_ADDRESS.free + 1)]
    assert statuses == [403] * OF_ADDRESS.free + [429]


@pytest.mark.parametrize(
    ("claim", "claims", "role"),
    [
        ("groups", {"groups": ["a", "boss", "staff"]}, Role.ADMIN),
        ("realm_access.roles", {"realm_access": {"roles": ["staff"]}}, Role.OPERATOR),
        ("https://example.org/roles", {"https://example.org/roles": "staff"}, Role.OPERATOR),
        ("realm_access.roles", {"realm_access": ["staff"]}, None),
        ("groups", {"groups": [["staff"], 7, None]}, None),
    ],
)
def test_where_a_role_is_read(claim: str, claims: Mapping[str, object], role: Role | None) -> None:
    values: Mapping[Role, Sequence[str]] = {Role.ADMIN: ["boss"], Role.OPERATOR: ["staff"]}
    assert read_person("https://issuer", {"sub": "1", **claims}, RoleTerms(claim=claim, values=values)).role is role


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "Grace Hopper"}, "grace-hopper"),
        ({"preferred_username": "", "email": "Grace@Example.org"}, "grace@example.org"),
        ({"preferred_username": "<script>alert(1)</script>"}, "script-alert-1-script"),
        ({"name": "太郎"}, "person-"),
        ({"preferred_username": 7}, "person-"),
    ],
)
def test_what_somebody_is_called_here(claims: Mapping[str, object], name: str) -> None:
    person = read_person("https://issuer", {"sub": "1", **claims}, RoleTerms(claim="groups", values={}))
    assert person.name == name if name != "person-" else person.name.startswith(name)
