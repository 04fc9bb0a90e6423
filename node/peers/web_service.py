"""A Destination on the web: its address without a password, connections to it, and what their failures mean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from node.errors import DestinationDown, Misconfigured, SettingsInvalid
from node.peers.peer import DestinationSpec
from node.tls import TlsTrust, client_context

Answer = TypeVar("Answer")


class WebService:
    """One service by HTTP or HTTPS.

    Parameters
    ----------
    kind
        What it is, and how its URL looks, for the text of an error.

    Attributes
    ----------
    url
        Its base, with name and password where the settings have them.
    shown
        The same without them, for people.

    Raises
    ------
    SettingsInvalid
        If the URL is none, or TLS is to be spoken and it is no ``https`` URL.
    """

    def __init__(self, spec: DestinationSpec, *, kind: tuple[str, str]) -> None:
        self.name = spec.name
        parts = urlsplit(spec.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            what, example = kind
            raise SettingsInvalid(
                f"destinations.{spec.name}.url is {spec.url.rpartition('@')[2]!r}; give the base URL of the {what} "
                f"service, such as {example}"
            )
        self.url = spec.url.rstrip("/")
        # A URL may hold name and password, which belong into no sentence.
        self.shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        self.timeout_s = spec.timeout_s
        self._tls = spec.tls
        if spec.tls is not None and parts.scheme != "https":
            raise SettingsInvalid(f"destinations.{spec.name}.url is no https URL, so it cannot have {spec.tls.where}")

    @contextmanager
    def session(self) -> Iterator[requests.Session]:
        """Give a session whose connections are closed afterwards."""
        with requests.Session() as session:
            # A PACS is not behind the proxy that the environment names for the web.
            session.trust_env = False
            # A POST that is redirected turns into a GET: better told than tried.
            session.max_redirects = 0
            if self._tls is not None:
                session.mount("https://", _TlsAdapter(self._tls))
                # requests would trust public authorities beside the one that is named.
                session.verify = True if self._tls.ca is None else str(self._tls.ca)
            yield session

    def timeouts_s(self, connect_s: float | None = None) -> tuple[float, float]:
        """Return how long a TCP connection, and an answer, may take; seconds. None: as any silence."""
        return (self.timeout_s if connect_s is None else connect_s, self.timeout_s)

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the answer of the server, whatever it is.

        Raises
        ------
        DestinationDown
            If there is none.
        Misconfigured
            If it redirects, or TLS fails.
        """
        try:
            return question()
        except requests.exceptions.TooManyRedirects as exc:
            raise Misconfigured(f"destination {self.name} redirects; set destinations.{self.name}.url") from exc
        except requests.exceptions.SSLError as exc:
            raise Misconfigured(f"destination {self.name}: TLS failed; check its certificate and our trust") from exc
        except requests.ConnectTimeout as exc:
            raise DestinationDown(f"destination {self.name}: no connection to {self.shown} in time") from exc
        except requests.Timeout as exc:
            raise DestinationDown(f"destination {self.name} gave no answer within {self.timeout_s:g} s") from exc
        except requests.RequestException as exc:
            raise DestinationDown(
                f"destination {self.name}: no connection to {self.shown}; check that it runs"
            ) from exc


class _TlsAdapter(HTTPAdapter):
    """Opens connections with our own TLS context."""

    def __init__(self, trust: TlsTrust) -> None:
        self._trust = trust
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Create the pool of connections."""
        options["ssl_context"] = client_context(self._trust)
        if not self._trust.check_host:
            # urllib3 compares by itself what the context does not.
            options["assert_hostname"] = False
        super().init_poolmanager(*args, **options)
