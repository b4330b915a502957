"""The web pages / and /status: files of this package, no inline script, no other origin but that of finished files."""

from importlib import resources
from typing import Literal
from urllib.parse import urlsplit

from fastapi import APIRouter
from fastapi.responses import Response

from service.api.deps import WithGateway
from service.settings import Settings

router = APIRouter(include_in_schema=False)

FILES = resources.files("service.api") / "console"
CONTENT_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "status.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "reference.css": "text/css; charset=utf-8",
    "status.css": "text/css; charset=utf-8",
    "status.js": "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "client.js": "text/javascript; charset=utf-8",
    "desk.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
PagePart = Literal[
    "style.css", "reference.css", "status.css", "app.js", "client.js", "desk.js", "status.js", "icon.svg"
]
HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


@router.get("/")
def get_page(gateway: WithGateway) -> Response:
    return _file("index.html", gateway.settings)


@router.get("/status")
def get_status_page(gateway: WithGateway) -> Response:
    return _file("status.html", gateway.settings)


@router.get("/console/{name}")
def get_page_part(gateway: WithGateway, name: PagePart) -> Response:
    return _file(name, gateway.settings)


def _file(name: str, settings: Settings) -> Response:
    headers = {**HEADERS, "Content-Security-Policy": _policy(settings)}
    return Response((FILES / name).read_bytes(), media_type=CONTENT_TYPES[name], headers=headers)


def _policy(settings: Settings) -> str:
    """With a key the page plays signed links, which may lead to the CDN or the store, and held videos that it got."""
    places = {urlsplit(url) for url in (settings.cdn_base_url, settings.s3_public_endpoint) if url is not None}
    files = " ".join(["'self'", *sorted(f"{place.scheme}://{place.netloc}" for place in places)])
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data: {files}; media-src blob: {files}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
