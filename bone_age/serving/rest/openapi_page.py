"""The OpenAPI document as a page to read; Swagger's own loads its script from another host, and a hospital has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment

_TEMPLATE = Path(__file__).with_name("openapi_page.html.jinja")


def openapi_page(document: dict[str, Any]) -> str:
    """HTML without a script."""
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    )
    schemas = document["components"]["schemas"]
    return page.render(document=document, schemas=schemas, type_of=type_of, pretty=pretty)


def type_of(schema: dict[str, Any]) -> str:
    """A schema's type in a word or two; the name of another schema where it refers to one."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(type_of(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {type_of(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or "anything")


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2)
