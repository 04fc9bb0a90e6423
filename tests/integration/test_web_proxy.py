"""A site behind a proxy: what the proxy tells counts, and nobody else's word does."""

from collections.abc import Iterator, Mapping

import pytest

from node.domain.account import Role
from node.networks import is_allowed
from node.settings.loading import load_settings
from node.web.rights import SECURE_COOKIE
from tests.websites import Website, website

BEHIND = {
    "RADNODE__WEB__BEHIND_PROXY": "true",
    "RADNODE__SECURITY__ALLOWED_NETWORKS": '["10.1.0.0/16", "127.0.0.1/32"]',
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BODY = b"name=ada&password=five+words+of+my+own"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site"), BEHIND, rights=frozenset()) as running:
        running.services.registry.add_user("ada", Role.VIEWER, password="five words of my own", by="test")
        yield running


def log_in(site: Website, headers: Mapping[str, str]) -> tuple[int, str]:
    response, _ = site.ask("POST", "/login", body=BODY, headers={**FORM, **headers})
    return response.status, response.getheader("Set-Cookie") or ""


def test_a_login_through_the_proxy_is_secure_and_its_address_is_known(site: Website) -> None:
    status, cookie = log_in(site, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1, 10.1.2.3"})
    assert (status, cookie.startswith(f"{SECURE_COOKIE}="), "Secure" in cookie) == (303, True, True)
    assert site.told[-1].facts["peer"] == "10.1.2.3"
    # The same cookie under its other name, by HTTP, is none.
    plain = {"Cookie": cookie.partition(";")[0]}
    by_http = {**plain, "X-Forwarded-Proto": "http"}
    assert site.ask("GET", "/dicom-web/studies", headers=by_http)[0].status == 401
    assert site.ask("GET", "/dicom-web/studies", headers={**plain, "X-Forwarded-Proto": "https"})[0].status == 200


def test_a_proxy_that_does_not_say_so_speaks_tls_to_browsers(site: Website) -> None:
    status, cookie = log_in(site, {"X-Forwarded-For": "10.1.2.3"})
    assert (status, cookie.startswith(f"{SECURE_COOKIE}="), "Secure" in cookie) == (303, True, True)
    asked = {proto: site.ask("GET", "/login", headers={"X-Forwarded-Proto": proto})[0] for proto in ("http", "https")}
    told = {proto: response.getheader("Strict-Transport-Security") for proto, response in asked.items()}
    assert told == {"http": None, "https": "max-age=2592000"}


def test_only_the_proxies_that_are_named_are_believed() -> None:
    named = load_settings(None, {**BEHIND, "RADNODE__WEB__PROXIES": '["10.1.2.3/32"]'})
    assert [str(network) for network in named.web.trusted_proxies] == ["10.1.2.3/32"]
    assert is_allowed("127.0.0.1", load_settings(None, BEHIND).web.trusted_proxies)


@pytest.mark.parametrize("address", ["192.0.2.1", "10.1.2.3, 192.0.2.1", "nonsense", "10.1.2.3, nonsense", "::1%eth0"])
def test_an_address_that_is_not_allowed_stays_out(site: Website, address: str) -> None:
    assert site.ask("GET", "/login", headers={"X-Forwarded-For": address})[0].status == 403


def test_without_a_proxy_nobody_is_believed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with website(tmp_path_factory.mktemp("alone"), rights=frozenset()) as site:
        site.services.registry.add_user("ada", Role.VIEWER, password="five words of my own", by="test")
        status, cookie = log_in(site, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.1.2.3"})
    assert (status, "Secure" in cookie) == (303, False)
    assert site.told[-1].facts["peer"] == "127.0.0.1"
