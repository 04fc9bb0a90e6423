"""What a provider says that no library of ours understands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from node.accounts.claims import RoleTerms
from node.accounts.provider import NONCE, STATE, Provider, Terms
from node.accounts.secret import derive
from node.clock import utc_now
from node.domain.account import Role
from node.errors import ProviderFailed

SECRET = "what the browser keeps"
PAGES = {"authorization_endpoint": "a", "token_endpoint": "token", "userinfo_endpoint": "who", "jwks_uri": "keys"}


@contextmanager
def provider_of(token_type: str) -> Iterator[str]:
    """Run a provider whose access tokens are of this type, and give its issuer."""
    key = ECKey.generate_key("P-256")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said: dict[str, object] = {"keys": [key.as_dict(private=False)]}
            if self.path != "/keys":
                said = {"issuer": issuer, **{name: f"{issuer}/{page}" for name, page in PAGES.items()}}
            self._say(said)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            now = int(utc_now().timestamp())
            claims = {"iss": issuer, "aud": "radnode", "sub": "1", "nonce": derive(SECRET, NONCE)}
            id_token = jwt.encode({"alg": "ES256"}, {**claims, "iat": now, "exp": now + 60}, key)
            self._say({"access_token": "x", "token_type": token_type, "id_token": id_token})

        def _say(self, said: object) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()


def test_a_token_of_a_kind_that_nobody_knows_is_the_providers_fault() -> None:
    with provider_of("mac") as issuer:
        roles = RoleTerms(claim="groups", values={Role.ADMIN: ["boss"]})
        terms = Terms(issuer=issuer, client_id="radnode", client_secret="", scopes=("openid",), ca="", roles=roles)
        query = {"state": derive(SECRET, STATE), "code": "c"}
        with pytest.raises(ProviderFailed, match="UnsupportedTokenTypeError"):
            Provider(terms, clock=utc_now).finish(SECRET, query, redirect_uri="http://localhost/back")
