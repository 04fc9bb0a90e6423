"""Logins by the OpenID provider of a hospital: there, and back."""

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote, unquote

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from node.accounts.opening import open_provider
from node.accounts.secret import new_secret
from node.audit.authentication import UNKNOWN, login_failed
from node.errors import ForgedRequest, LoginRefused, NotFound, ProviderFailed, TooManyLogins
from node.web.console.login import HOME, Hall, as_sentence
from node.web.console.page import Pages
from node.web.rights import address_of, cookie_name, is_secure
from node.web.services import Services

# How long somebody may take there.
PATIENCE_S = 600
SUFFIX = "-login"
MAX_AT_ONCE = 4


def router(services: Services) -> APIRouter:
    """Return ``/login/provider`` and ``/login/provider/callback``; who asks for them needs no right."""
    routes = APIRouter()
    provider = open_provider(services.settings.web.oidc, clock=services.clock)
    hall = Hall(services=services, pages=Pages(services), has_provider=provider is not None)
    # A provider that does not answer keeps these threads, and none of those that serve everybody else.
    limiter = CapacityLimiter(MAX_AT_ONCE)

    @routes.get("/login/provider")
    async def begin(request: Request) -> Response:
        return await run_sync(send_there, request, limiter=limiter)

    @routes.get("/login/provider/callback")
    async def finish(request: Request) -> Response:
        return await run_sync(take_back, request, limiter=limiter)

    def send_there(request: Request) -> Response:
        if provider is None:
            raise NotFound("this node has no OpenID provider; see web.oidc")
        secret, way = new_secret(), request.query_params.get("next", HOME)
        try:
            url = provider.begin(secret, _redirect_uri(request))
        except ProviderFailed as exc:
            return hall.show_login(request, way=way, problem=as_sentence(exc), status=exc.http_status)
        response = RedirectResponse(url, status_code=HTTPStatus.SEE_OTHER)
        response.set_cookie(
            cookie_name(request) + SUFFIX,
            f"{secret}.{quote(way, safe='')}",
            max_age=PATIENCE_S,
            path="/",
            httponly=True,
            samesite="lax",
            secure=is_secure(request),
        )
        return response

    def take_back(request: Request) -> Response:
        if provider is None:
            raise NotFound("this node has no OpenID provider; see web.oidc")
        secret, _, way = request.cookies.get(cookie_name(request) + SUFFIX, "").partition(".")

        def admit() -> Response:
            with services.doorkeeper.counting(address_of(request)):
                person = provider.finish(secret, request.query_params, redirect_uri=_redirect_uri(request))
                user = services.registry.welcome_person(person, address=address_of(request))
            return hall.admit(request, user, unquote(way))

        response = _or_why_not(hall, request, admit)
        response.delete_cookie(
            cookie_name(request) + SUFFIX, path="/", httponly=True, samesite="lax", secure=is_secure(request)
        )
        return response

    return routes


def _or_why_not(hall: Hall, request: Request, admit: Callable[[], Response]) -> Response:
    try:
        return admit()
    except TooManyLogins as exc:
        return hall.show_login(request, way=HOME, problem=as_sentence(exc), status=exc.http_status)
    except (ForgedRequest, LoginRefused, ProviderFailed) as exc:
        hall.services.record(login_failed(UNKNOWN, address=address_of(request), why=str(exc)))
        return hall.show_login(request, way=HOME, problem=as_sentence(exc), status=exc.http_status)


def _redirect_uri(request: Request) -> str:
    # Host is a name of this node: others never get so far.
    return f"{str(request.base_url).rstrip('/')}/login/provider/callback"
