"""Logins by an OpenID provider: code flow with PKCE, state and nonce; the only door to Authlib.

References: OpenID Connect Core 1.0 3.1, Discovery 1.0 4; RFC 7636, RFC 9207, RFC 9700.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization
from requests import RequestException, Response

from node.accounts.claims import Person, RoleTerms, has_claim, read_person
from node.accounts.secret import derive, is_same
from node.clock import Clock
from node.errors import ForgedRequest, LoginRefused, ProviderFailed

DISCOVERY = "/.well-known/openid-configuration"
TIMEOUT_S = 10.0
# Clocks of two machines.
LEEWAY_S = 60
# Those of keys that only the provider has; "none" and HMAC are not among them (RFC 8725 3.1).
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
# What an error of RFC 6749 5.2 looks like; nothing else of what it says is told on.
WORD = re.compile(r"[a-z_]{1,40}\Z")
# What the provider says of itself and its keys is asked for anew after so long.
KEPT = timedelta(minutes=5)
STATE, NONCE, VERIFIER = "state", "nonce", "verifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What this node and the provider have agreed on.

    Attributes
    ----------
    client_secret
        Empty for a public client.
    ca
        PEM file of its authority; empty: those of the system.
    """

    issuer: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...]
    ca: str
    roles: RoleTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the provider said of itself: where its pages are, or its keys."""

    content: Mapping[str, Any]
    until: datetime


class Provider:
    """Sends people to the provider, and reads with what it sends them back.

    Everything of one login (state, nonce, code verifier) is derived from one secret that the browser keeps meanwhile:
    any process of the node can finish what another one has begun, and nothing of a person is kept here.
    """

    def __init__(self, terms: Terms, *, clock: Clock) -> None:
        self._terms = terms
        self._clock = clock
        self._kept: dict[str, _Said] = {}

    def begin(self, secret: str, redirect_uri: str) -> str:
        """Return the URL where somebody logs in.

        Parameters
        ----------
        secret
            Fresh and random; the browser keeps it.
        redirect_uri
            Where the provider sends them back to.

        Raises
        ------
        ProviderFailed
            If the provider does not say where that is.
        """
        with self._session(redirect_uri) as session:
            found = self._discover(session)
            url, _ = session.create_authorization_url(
                _named(found, "authorization_endpoint"),
                state=derive(secret, STATE),
                nonce=derive(secret, NONCE),
                code_verifier=derive(secret, VERIFIER),
            )
        return str(url)

    def finish(self, secret: str, query: Mapping[str, str], *, redirect_uri: str) -> Person:
        """Return who has logged in.

        Parameters
        ----------
        secret
            What the browser has kept.
        query
            With what the provider sent it back.
        redirect_uri
            Where to; the same as when it began.

        Raises
        ------
        ForgedRequest
            If this browser did not begin that login.
        LoginRefused
            If the provider let nobody in.
        ProviderFailed
            If it does not answer, or what it says of somebody is not valid.
        """
        terms = self._terms
        # Without a secret, anybody could tell what is derived from it.
        if not secret or not is_same(query.get("state", ""), derive(secret, STATE)):
            raise ForgedRequest("this login was begun by another browser, or long ago; begin again")
        if query.get("iss", terms.issuer) != terms.issuer:
            raise ForgedRequest("this answer is of another provider than the one that was asked; begin again")
        if "code" not in query:
            # Its own words may come from anybody who makes up a URL.
            raise LoginRefused("the provider let nobody in; see its log")
        with self._session(redirect_uri) as session:
            found = self._discover(session)
            tokens = self._fetch_tokens(session, _named(found, "token_endpoint"), secret, query["code"])
            claims = self._read_id_token(session, found, secret, tokens)
            if not has_claim(claims, terms.roles) and "userinfo_endpoint" in found:
                more = _json(lambda: session.get(found["userinfo_endpoint"], timeout=TIMEOUT_S))
                # Of the same person, or of nobody (OpenID Connect Core 5.3.2).
                claims = {**more, **claims} if more.get("sub") == claims["sub"] else claims
        return read_person(terms.issuer, claims, terms.roles)

    def _session(self, redirect_uri: str) -> Any:
        terms = self._terms
        session = OAuth2Session(
            terms.client_id,
            terms.client_secret or None,
            scope=" ".join(terms.scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if terms.client_secret else "none",
            default_timeout=TIMEOUT_S,
        )
        session.verify = terms.ca or True
        session.max_redirects = 2
        return session

    def _discover(self, session: Any) -> Mapping[str, Any]:
        issuer = self._terms.issuer
        found = self._ask_kept(session, issuer.rstrip("/") + DISCOVERY)
        if found.get("issuer") != issuer:
            raise ProviderFailed(
                "the provider calls itself otherwise than web.oidc.issuer; correct the one or the other"
            )
        return found

    def _fetch_tokens(self, session: Any, url: str, secret: str, code: str) -> Mapping[str, Any]:
        try:
            tokens: Mapping[str, Any] = session.fetch_token(
                url, grant_type="authorization_code", code=code, code_verifier=derive(secret, VERIFIER)
            )
        except OAuthError as exc:
            why = exc.error if WORD.match(str(exc.error)) else "in no word of RFC 6749"
            raise LoginRefused(
                f"the provider gave nothing for its own code ({why}); see web.oidc, or begin again"
            ) from exc
        except (RequestException, AuthlibBaseError, ValueError) as exc:
            raise ProviderFailed(f"the provider gave no tokens ({type(exc).__name__}); see its log") from exc
        return tokens

    def _read_id_token(
        self, session: Any, found: Mapping[str, Any], secret: str, tokens: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        must: dict[str, Any] = {
            "iss": {"essential": True, "value": self._terms.issuer},
            "aud": {"essential": True, "value": self._terms.client_id},
        }
        said = {"nonce": derive(secret, NONCE), "client_id": self._terms.client_id}
        try:
            token = self._decode(session, _named(found, "jwks_uri"), str(tokens.get("id_token", "")))
            params = {**said, "access_token": tokens.get("access_token")}
            claims = CodeIDToken(token.claims, token.header, must, params)
            claims.validate(now=int(self._clock().timestamp()), leeway=LEEWAY_S)
        except (JoseError, AuthlibBaseError, ValueError, TypeError, KeyError) as exc:
            raise ProviderFailed(
                f"what the provider says of this person is not valid ({type(exc).__name__}); look at both clocks, and "
                "at web.oidc.client_id"
            ) from exc
        return dict(claims)

    def _decode(self, session: Any, url: str, id_token: str) -> jwt.Token:
        try:
            return _decoded(id_token, self._ask_kept(session, url))
        except (JoseError, ValueError, KeyError):
            # Its keys may have changed since.
            if self._kept.pop(url, None) is None:
                raise
            return _decoded(id_token, self._ask_kept(session, url))

    def _ask_kept(self, session: Any, url: str) -> Mapping[str, Any]:
        """Return what the provider says there, or has said some minutes ago."""
        now, kept = self._clock(), self._kept.get(url)
        if kept is not None and kept.until - KEPT <= now < kept.until:
            return kept.content
        content = _json(lambda: session.get(url, withhold_token=True, timeout=TIMEOUT_S))
        self._kept = {**self._fresh(now), url: _Said(content=content, until=now + KEPT)}
        return content

    def _fresh(self, now: datetime) -> dict[str, _Said]:
        return {url: said for url, said in self._kept.items() if now < said.until}


def _decoded(id_token: str, keys: Mapping[str, Any]) -> jwt.Token:
    known = KeySet.import_key_set(cast("KeySetSerialization", keys))
    return jwt.decode(id_token, known, algorithms=list(ALGORITHMS))


def _json(ask: Callable[[], Response]) -> Mapping[str, Any]:
    try:
        response = ask()
        response.raise_for_status()
        found = response.json()
    except (RequestException, AuthlibBaseError, OSError, ValueError) as exc:
        raise ProviderFailed(f"the provider does not answer ({type(exc).__name__}); see web.oidc.issuer") from exc
    if not isinstance(found, dict):
        raise ProviderFailed("the provider answers other than OpenID says; see web.oidc.issuer")
    return found


def _named(found: Mapping[str, Any], name: str) -> str:
    url = found.get(name)
    if not isinstance(url, str):
        raise ProviderFailed(f"the provider names no {name}; see web.oidc.issuer")
    return url
