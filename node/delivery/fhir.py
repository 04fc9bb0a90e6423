"""FHIR transport: answers leave as transactions, by HTTP POST to the base of a FHIR R4 service.

References: FHIR R4 http 3.1.0.11 (transaction), operationoutcome.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic
from typing import Any

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from node.domain.answer import Answer
from node.errors import DestinationBusy, DestinationDown, Misconfigured, ReportRefused
from node.fhir.transaction import build_transaction
from node.peers.parcel import Outcome
from node.peers.peer import DestinationSpec
from node.peers.status import DOUBTFUL_TRIES, UNPROCESSED_TRIES
from node.peers.web_service import WebService

FHIR_JSON = "application/fhir+json"
FHIR_VERSION = "4."
KIND = ("FHIR", "https://his.example.org/fhir/R4")
# A person must act: credentials, URL.
MISCONFIGURED: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "asks for credentials; set destinations.{name}.token",
    HTTPStatus.FORBIDDEN: "forbids this to radnode; permit it there, or give another token",
    HTTPStatus.NOT_FOUND: "has no FHIR service at this URL; correct destinations.{name}.url",
    HTTPStatus.METHOD_NOT_ALLOWED: "takes no transaction at this URL; correct destinations.{name}.url",
    HTTPStatus.GONE: "has no FHIR service at this URL any more; correct destinations.{name}.url",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "is behind a proxy that asks for credentials",
}
# Nobody behind the gateway answers.
DOWN = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT, HTTPStatus.REQUEST_TIMEOUT})
# It answers, and takes nothing at the moment; it may say for how long.
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE})
# The content is at fault, and would be at each try.
REFUSED = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.PRECONDITION_FAILED,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
# What of an OperationOutcome may be shown (http://hl7.org/fhir/issue-type); its texts could quote the patient.
ISSUE_TYPES = frozenset(
    {
        "invalid", "structure", "required", "value", "invariant", "security", "login", "unknown", "expired",
        "forbidden", "suppressed", "processing", "not-supported", "duplicate", "multiple-matches", "not-found",
        "deleted", "too-long", "code-invalid", "extension", "too-costly", "business-rule", "conflict", "transient",
        "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled", "informational",
    }
)  # fmt: skip
# A longer Retry-After is not waited for: a person may have repaired the service meanwhile.
LONGEST_WAIT_S = 3600.0


class FhirMessenger:
    """Tells one FHIR service."""

    def __init__(self, spec: DestinationSpec) -> None:
        self._service = WebService(spec, kind=KIND)
        self._name = spec.name
        self._token = spec.token
        # Until when the service wants to be left alone, by `time.monotonic`.
        self._closed_until_s = 0.0

    def tell(self, answer: Answer) -> Outcome:
        """Return what became of the transaction; see `Messenger.tell`."""
        left_s = self._closed_until_s - monotonic()
        if left_s > 0:
            raise DestinationBusy(f"destination {self._name} wants to be left alone for {left_s:.0f} s")
        # A name that is no Unicode must not keep its report from leaving.
        content = json.dumps(build_transaction(answer), ensure_ascii=False).encode("utf-8", "replace")
        try:
            response = self._request("POST", self._service.url, content)
            self._check_whole(response.status_code)
        except DestinationDown as exc:
            # Raises where the service is down; where it is not, it may be this transaction that it does not survive.
            self.probe()
            return Outcome.retry(exc)
        status = response.status_code
        if status in BUSY:
            self._closed_until_s = monotonic() + _retry_after_s(response)
            raise DestinationBusy(f"destination {self._name} takes nothing at the moment (HTTP {status})")
        return self._judge(response)

    def probe(self, *, connect_s: float | None = None) -> str:
        """Return in words that the service answers, and of which version it is.

        Raises
        ------
        DestinationDown
            If nobody answers, or with an error.
        Misconfigured
            If URL, credentials or version are wrong.
        """
        response = self._request("GET", f"{self._service.url}/metadata", None, connect_s=connect_s)
        status = response.status_code
        self._check_whole(status)
        if not response.ok:
            raise DestinationDown(f"destination {self._name} failed to say what it is (HTTP {status})")
        said = _read(response)
        if said.get("resourceType") != "CapabilityStatement":
            raise Misconfigured(f"{self._service.shown} is no FHIR service; correct destinations.{self._name}.url")
        version = str(said.get("fhirVersion", ""))
        if not version.startswith(FHIR_VERSION):
            raise Misconfigured(
                f"{self._service.shown} is no FHIR R4 service; give its R4 base in destinations.{self._name}.url"
            )
        return f"{self._service.shown} answers as FHIR R4 (HTTP {status})"

    def _request(
        self, method: str, url: str, content: bytes | None, *, connect_s: float | None = None
    ) -> requests.Response:
        headers = {"Accept": FHIR_JSON}
        if content is not None:
            headers["Content-Type"] = FHIR_JSON
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        timeouts_s = self._service.timeouts_s(connect_s)
        with self._service.session() as session:
            return self._service.ask(
                lambda: session.request(method, url, data=content, headers=headers, timeout=timeouts_s)
            )

    def _check_whole(self, status: int) -> None:
        """Raise what concerns the whole Destination."""
        if status in MISCONFIGURED:
            what = MISCONFIGURED[status].format(name=self._name)
            raise Misconfigured(f"destination {self._name} {what} (HTTP {status})")
        if status in DOWN:
            raise DestinationDown(f"destination {self._name} cannot be reached by its gateway (HTTP {status})")

    def _judge(self, response: requests.Response) -> Outcome:
        status, said = response.status_code, _read(response)
        if response.ok:
            if (said.get("resourceType"), said.get("type")) == ("Bundle", "transaction-response"):
                return Outcome.sent()
            error = ReportRefused(f"destination {self._name} gave no answer to a transaction (HTTP {status})")
            return Outcome.retry(error, tries=DOUBTFUL_TRIES)
        shown = ", ".join((f"HTTP {status}", *_issues(said)))
        if status in REFUSED:
            return Outcome.refused(ReportRefused(f"destination {self._name} refused the transaction ({shown})"))
        error = ReportRefused(f"destination {self._name} failed to process the transaction ({shown})")
        is_its_own = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.CONFLICT
        return Outcome.retry(error, tries=UNPROCESSED_TRIES if is_its_own else DOUBTFUL_TRIES)


def _read(response: requests.Response) -> Mapping[str, Any]:
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _issues(said: Mapping[str, Any]) -> tuple[str, ...]:
    found = said.get("issue")
    listed = found if isinstance(found, list) else []
    types = (str(one.get("code", "")) for one in listed if isinstance(one, dict))
    return tuple(dict.fromkeys(one for one in types if one in ISSUE_TYPES))


def _retry_after_s(response: requests.Response) -> float:
    """Return how long the service wants to be left alone; it says seconds, or a date."""
    try:
        wanted_s = Retry().parse_retry_after(response.headers.get("Retry-After", ""))
    except InvalidHeader:
        return 0.0
    return min(wanted_s, LONGEST_WAIT_S)
