"""The door of the console: login, logout, passwords, and one-time links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from node.accounts.doorkeeper import Attempt
from node.domain.account import User
from node.errors import (
    LoginRefused,
    NodeError,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    PasswordUnfit,
    SettingsInvalid,
    TooManyLogins,
)
from node.web.console.form import read_fields
from node.web.console.page import Pages
from node.web.rights import Visitor, address_of, cookie_name, identify, is_secure, session_cookie
from node.web.services import Services

HOME = "/"
MAX_NEXT_LENGTH = 2000
Fields = Annotated[Mapping[str, Sequence[str]], Depends(read_fields)]
Asker = Annotated[Visitor, Depends(identify)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hall:
    """What the routes of the door share."""

    services: Services
    pages: Pages
    has_provider: bool

    def admit(self, request: Request, user: User, way: str, *, kept: str | None = None) -> Response:
        """Return what leads somebody who has proved who they are to a page, with a session that is new always.

        Parameters
        ----------
        kept
            Hash of the password by which they did; None: by other means.

        Raises
        ------
        LoginRefused
            If the user was changed meanwhile.
        """
        doorkeeper, address = self.services.doorkeeper, address_of(request)
        before = session_cookie(request)
        if before:
            doorkeeper.log_out(before, address=address)
        return self.hand_over(request, doorkeeper.admit(user, address=address, kept=kept), way)

    def hand_over(self, request: Request, secret: str, way: str) -> Response:
        """Return what leads to a page, and lets the browser keep the secret of a session."""
        response = RedirectResponse(local_path(way), status_code=HTTPStatus.SEE_OTHER)
        response.set_cookie(
            cookie_name(request), secret, path="/", httponly=True, samesite="lax", secure=is_secure(request)
        )
        return response

    def show_login(
        self, request: Request, *, way: str, name: str = "", problem: str = "", status: int = HTTPStatus.OK
    ) -> HTMLResponse:
        """Return the page where people log in."""
        return self.pages.render(
            request,
            None,
            "login.html",
            status=status,
            is_first=not self.services.registry.has_users(),
            has_provider=self.has_provider,
            next=local_path(way),
            name=name,
            problem=problem,
        )

    def show_password(self, request: Request, view: "PasswordView") -> HTMLResponse:
        """Return the page where people set a password."""
        return self.pages.render(
            request,
            view.visitor,
            "password.html",
            status=view.status,
            heading=view.heading,
            name=view.name,
            is_name_fixed=view.is_name_fixed,
            asks_old=view.visitor is not None,
            problem=view.problem,
            link_is_spent=view.link_is_spent,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordView:
    """What the page shows where people set a password."""

    heading: str
    name: str = ""
    visitor: Visitor | None = None
    is_name_fixed: bool = True
    problem: str = ""
    link_is_spent: bool = False
    status: int = HTTPStatus.OK


def router(services: Services) -> APIRouter:
    """Return ``/login``, ``/logout``, ``/password`` and ``/welcome/…``; who asks for them needs no right."""
    routes = APIRouter()
    hall = Hall(services=services, pages=Pages(services), has_provider=bool(services.settings.web.oidc.issuer))
    _add_login(routes, hall)
    _add_password(routes, hall)
    _add_welcome(routes, hall)
    return routes


def local_path(way: str) -> str:
    """Return where a login leads to: a path of this node, or the first page for anything else."""
    # Browsers read a backslash as a slash, and //host as another host.
    is_ours = way[:1] == "/" and way[1:2] not in {"/", "\\"} and len(way) <= MAX_NEXT_LENGTH
    return way if is_ours and way.isascii() and way.isprintable() and "\\" not in way else HOME


def _add_login(routes: APIRouter, hall: Hall) -> None:
    services = hall.services

    @routes.get("/login")
    def ask(request: Request) -> Response:
        way = request.query_params.get("next", HOME)
        try:
            identify(request)
        except NotAuthenticated:
            return hall.show_login(request, way=way)
        return RedirectResponse(local_path(way), status_code=HTTPStatus.SEE_OTHER)

    @routes.post("/login")
    def log_in(request: Request, fields: Fields) -> Response:
        name, way = _text(fields, "name"), _text(fields, "next")
        attempt = Attempt(name=name.strip().lower(), password=_text(fields, "password"), address=address_of(request))
        try:
            user, kept = services.doorkeeper.prove(attempt)
            return hall.admit(request, user, way, kept=kept)
        except LoginRefused:
            problem = "Name or password is not right."
            return hall.show_login(request, way=way, name=name, problem=problem, status=HTTPStatus.FORBIDDEN)
        except TooManyLogins as exc:
            return hall.show_login(request, way=way, name=name, problem=as_sentence(exc), status=exc.http_status)

    @routes.post("/logout")
    def log_out(request: Request) -> Response:
        secret = session_cookie(request)
        if secret:
            services.doorkeeper.log_out(secret, address=address_of(request))
        response = RedirectResponse("/login", status_code=HTTPStatus.SEE_OTHER)
        response.delete_cookie(cookie_name(request), path="/", httponly=True, samesite="lax", secure=is_secure(request))
        return response


def _add_password(routes: APIRouter, hall: Hall) -> None:
    services, heading = hall.services, "Change password"

    def view(visitor: Visitor, problem: str = "", status: int = HTTPStatus.OK) -> PasswordView:
        return PasswordView(heading=heading, name=visitor.name, visitor=visitor, problem=problem, status=status)

    @routes.get("/password")
    def ask(request: Request, visitor: Asker) -> Response:
        return hall.show_password(request, view(_person(visitor)))

    @routes.post("/password")
    def change(request: Request, visitor: Asker, fields: Fields) -> Response:
        name, address = _person(visitor).name, address_of(request)
        try:
            user, _ = services.doorkeeper.prove(Attempt(name=name, password=_text(fields, "old"), address=address))
            services.registry.set_password(name, _twice(fields), by=name)
        except LoginRefused:
            return hall.show_password(
                request, view(visitor, "The present password is not right.", HTTPStatus.FORBIDDEN)
            )
        except (PasswordUnfit, TooManyLogins) as exc:
            return hall.show_password(request, view(visitor, as_sentence(exc), exc.http_status))
        return hall.admit(request, user, HOME)


def _add_welcome(routes: APIRouter, hall: Hall) -> None:
    registry = hall.services.registry

    def view(owner: User | None, name: str = "", problem: str = "") -> PasswordView:
        return PasswordView(
            heading="Make the first account" if owner is None else "Set your password",
            name=name if owner is None else owner.name,
            is_name_fixed=owner is not None,
            problem=problem,
            status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        )

    def spent(request: Request) -> Response:
        page = PasswordView(heading="No such link", link_is_spent=True, status=HTTPStatus.NOT_FOUND)
        return hall.show_password(request, page)

    @routes.get("/welcome/{secret}")
    def ask(request: Request, secret: str) -> Response:
        try:
            return hall.show_password(request, view(registry.whose_link(secret)))
        except NotFound:
            return spent(request)

    @routes.post("/welcome/{secret}")
    def use(request: Request, secret: str, fields: Fields) -> Response:
        name = _text(fields, "name")
        try:
            owner = registry.whose_link(secret)
            try:
                user = registry.use_link(secret, _twice(fields), name=name, address=address_of(request))
            except (PasswordUnfit, SettingsInvalid) as exc:
                return hall.show_password(request, view(owner, name, as_sentence(exc)))
        except NotFound:
            return spent(request)
        return hall.admit(request, user, HOME)


def _person(visitor: Visitor) -> Visitor:
    if not visitor.csrf:
        raise NotAuthorized("a token has no password; `radnode tokens` makes and revokes them")
    return visitor


def _text(fields: Mapping[str, Sequence[str]], name: str) -> str:
    return fields.get(name, [""])[0]


def _twice(fields: Mapping[str, Sequence[str]]) -> str:
    password = _text(fields, "password")
    if _text(fields, "again") != password:
        raise PasswordUnfit("the two passwords are not the same; type them once more")
    return password


def as_sentence(exc: NodeError) -> str:
    """Return what an error says, for a page."""
    said = str(exc)
    return f"{said[:1].upper()}{said[1:]}."
