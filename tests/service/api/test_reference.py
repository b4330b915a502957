"""/docs: a page that needs nothing from elsewhere."""

import re

import httpx

from service.api.reference import reference_page, type_text
from tests.service.api.test_openapi import operations


def test_the_page_has_every_operation_and_object_and_loads_nothing_from_elsewhere(bare_client: httpx.Client) -> None:
    page = bare_client.get("/docs")
    document = bare_client.get("/openapi.json").json()

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "script" not in page.headers["content-security-policy"]
    for operation in operations(document):
        assert f'id="{operation["operationId"]}"' in page.text
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in page.text
    assert "<script" not in page.text
    assert re.findall(r'(?:src|<link[^>]*href)="([^"]*)"', page.text) == ["/console/reference.css"]
    assert bare_client.get("/console/reference.css").headers["content-type"].startswith("text/css")


def test_every_link_within_the_page_leads_somewhere(bare_client: httpx.Client) -> None:
    page = bare_client.get("/docs").text

    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(re.findall(r'id="([^"]*)"', page))


def test_text_of_the_document_is_no_markup() -> None:
    bad = "<script>alert(1)</script>"
    document = {
        "info": {"title": bad, "version": "1", "description": bad},
        "paths": {f"/{bad}": {"get": {"operationId": bad, "summary": bad, "responses": {bad: {"description": bad}}}}},
        "components": {"schemas": {bad: {"description": bad, "properties": {bad: {"enum": [bad]}}}}},
    }

    assert "<script" not in reference_page(document)


def test_types_are_told_in_words() -> None:
    assert type_text({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}) == "integer, ≥ 1 or null"
    assert type_text({"type": "array", "items": {"$ref": "#/components/schemas/Video"}}) == (
        'list of <a href="#Video">Video</a>'
    )
