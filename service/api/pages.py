"""The web page at /: three files of this package, no other origin, no inline script."""

from importlib import resources
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import Response

router = APIRouter(include_in_schema=False)

FILES = resources.files("service.api") / "console"
CONTENT_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "client.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


@router.get("/")
def get_page() -> Response:
    return _file("index.html")


@router.get("/console/{name}")
def get_page_part(name: Literal["style.css", "app.js", "client.js", "icon.svg"]) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    return Response((FILES / name).read_bytes(), media_type=CONTENT_TYPES[name], headers=HEADERS)
