"""What every page shares: the templates, the frame around them, and where a form leads back to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from node.domain.percent import percent
from node.ledger.alarms import AlarmLedger
from node.version import product_version
from node.web.rights import Right, Visitor
from node.web.services import Services
from node.wording import age, brief, seconds_words, sentence, short_uid, size_words, span

# What else a page may do is nothing: no script or style of its own, no frame, no other host.
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
STATIC = Path(str(files("node.web.console") / "static"))


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of the navigation."""

    name: str
    url: str
    right: Right


PLACES = (
    Place("Worklist", "/", Right.READ),
    Place("Flow", "/flow", Right.READ),
    Place("Rules", "/rules", Right.READ),
    Place("Models", "/models", Right.READ),
    Place("Destinations", "/destinations", Right.READ),
    Place("Audit", "/audit", Right.MANAGE),
    Place("Settings", "/settings", Right.MANAGE),
    Place("About", "/about", Right.READ),
)

# What a page says after a form led to it; the key stands in the URL, the sentence nowhere else.
SAID: Mapping[str, str] = {
    "job-retried": "The Job is scheduled again.",
    "job-canceled": "The Job is canceled.",
    "deliveries-due": "What had not arrived is sent again now.",
    "deliveries-none": "Nothing waits to be sent again: it arrived, or was taken back.",
    "study-reprocessed": "The rules are asked again; what they order shows below.",
    "results-retracted": "The Results are taken back; Destinations are told, see the time line.",
    "finding-reviewed": "Your verdict is kept.",
    "destination-tested": "The test is done; its steps stand below.",
    "destination-under-test": "A test of this Destination runs already; load the page again in a moment.",
    "destinations-tested": "Every Destination was tested; the steps stand with each.",
    "deliveries-dismissed": "It is noted that you know; retention keeps these Studies no longer for that.",
    "trail-under-proof": "The audit trail is being read already; load the page again in a moment.",
    "trail-proven": "The audit trail was read from end to end; what was found stands below.",
    "pipeline-switched": "The switch is set, for every node of this ledger and from the next Study on.",
    "pipeline-unchanged": "Nothing was changed: the pipeline stands so already.",
}


class Pages:
    """Makes pages of templates."""

    def __init__(self, services: Services) -> None:
        self._alarms = AlarmLedger(services.engine)
        node = services.settings.node
        # autoescape: a Patient's Name may hold anything.
        self._templates = Environment(
            loader=PackageLoader("node.web.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(age=age, span=span, short_uid=short_uid, clock=clock)
        self._templates.filters.update(seconds=seconds_words, size=size_words, sentence=sentence)
        self._templates.filters.update(brief=brief, percent=percent)
        self._templates.globals.update(
            asset=cache(asset_url), places=PLACES, node_name=f"{node.aet}:{node.port}", version=product_version()
        )

    def render(
        self, request: Request, visitor: Visitor | None, template: str, *, status: int = HTTPStatus.OK, **values: object
    ) -> HTMLResponse:
        """Return the page that `template` makes of `values`.

        Parameters
        ----------
        visitor
            Who looks; None: nobody who has logged in, and the page has no navigation.
        """
        frame = {
            "visitor": visitor,
            "here": request.url.path,
            "alarms": 0 if visitor is None else len(self._alarms.standing_alarms()),
            "said": SAID.get(request.query_params.get("said", "")),
        }
        html = self._templates.get_template(template).render({**frame, **values})
        return HTMLResponse(html, status_code=status, headers=HEADERS)


def go_to(path: str, *, say: str | None = None, at: str = "") -> RedirectResponse:
    """Return what leads from a form to a page of ours, which says the sentence `say` of `SAID`; `at` is an id on it."""
    if say is not None and say not in SAID:
        raise KeyError(say)
    url = path if say is None else f"{path}?{urlencode({'said': say})}"
    url = f"{url}#{at}" if at else url
    return RedirectResponse(url, status_code=HTTPStatus.SEE_OTHER)


def asset_url(name: str) -> str:
    """Return the URL of a file of `static`, which changes with its content."""
    return f"/static/{name}?v={sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def clock(at: datetime) -> str:
    """Return a point in time, in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
