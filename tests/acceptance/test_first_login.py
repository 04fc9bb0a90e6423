"""The first day of a site: the link that the start prints, HTTPS, a token for a gateway, and what the trail tells."""

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.certificates import Authority
from tests.node_process import QUICK, Launch, NodeProcess, run_radnode
from tests.peers import free_port, wait_until
from tests.websites import DICOM, STUDIES, fresh_slice, part10

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LINK = re.compile(r"https://127\.0\.0\.1:(\d+)(/welcome/\S+)")
PASSWORD = "five words of my own"
pytestmark = pytest.mark.needs("openssl")


class Site:
    """A node that serves HTTPS, and who trusts its certificate."""

    def __init__(self, node: NodeProcess, port: int, trusted: Path) -> None:
        self.node = node
        self.port = port
        self._tls = ssl.create_default_context(cafile=str(trusted))

    def ask(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[HTTPResponse, bytes]:
        connection = HTTPSConnection("127.0.0.1", self.port, context=self._tls, timeout=60.0)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def link(self) -> str:
        """Return the path of the link that the start has printed."""
        output = self.node.folder / "output.txt"
        found = wait_until(lambda: LINK.search(output.read_text()), what="the first link")
        assert int(found[1]) == self.port
        return found[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("site"), free_port()
    signed = Authority(folder / "ca").sign("node")
    settings = f'[web]\nport = {port}\n[web.tls]\ncertificate = "{signed.certificate}"\nkey = "{signed.key}"\n\n{QUICK}'
    launch = Launch(verb="serve")
    with NodeProcess(folder, settings, node_keys="receivers = 1", launch=launch) as node:
        yield Site(node, port, folder / "ca" / "site-ca.pem")


def test_a_site_comes_from_its_first_link_to_a_gateway_that_stores(site: Site) -> None:
    settings, link = ("--settings", site.node.file), site.link()
    fields = {"name": "ada", "password": PASSWORD, "again": PASSWORD}
    response, _ = site.ask("POST", link, body=urlencode(fields).encode(), headers=FORM)
    said = response.getheader("Set-Cookie") or ""
    assert (response.status, said[:15]) == (303, "__Host-radnode=")
    assert all(word in said for word in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"))
    session = {"Cookie": said.partition(";")[0]}
    assert site.ask("GET", STUDIES, headers=session)[0].status == 200
    made = run_radnode("tokens", "add", "ct1", "--scope", "store", "--days", "30", *settings)
    token = made.stdout.strip()
    assert token.startswith("radnode_"), made.stderr
    bearer = {"Authorization": f"Bearer {token}"}
    body = part10(fresh_slice())
    response, _ = site.ask("POST", STUDIES, body=body, headers={"Content-Type": DICOM, **bearer})
    assert response.status == 200
    assert site.ask("GET", STUDIES, headers=bearer)[0].status == 403
    assert "last admin" in run_radnode("users", "disable", "ada", *settings).stderr
    assert run_radnode("users", "add", "carl", "--role", "admin", *settings).returncode == 0
    assert run_radnode("users", "disable", "ada", *settings).returncode == 0
    assert site.ask("GET", STUDIES, headers=session)[0].status == 401
    assert run_radnode("tokens", "revoke", "ct1", *settings).returncode == 0
    assert site.ask("POST", STUDIES, body=body, headers={"Content-Type": DICOM, **bearer})[0].status == 401
    trail = json.loads(run_radnode("audit", "show", "--json", *settings).stdout)
    assert [record["kind"] for record in reversed(trail) if record["kind"] in {"logged-in", "accounts-changed"}] == [
        "accounts-changed",  # the link
        "accounts-changed",  # the first user
        "logged-in",
        "accounts-changed",  # the token
        "accounts-changed",  # carl
        "accounts-changed",  # the link of carl
        "accounts-changed",  # disabled
        "accounts-changed",  # revoked
    ]
    for secret in (token, link.rpartition("/")[2], session["Cookie"].partition("=")[2], PASSWORD):
        assert secret not in (site.node.folder / "node.log").read_text()
        assert secret not in json.dumps(trail)
