"""The OpenAPI document, made from the route table and the schemas."""

import re
from collections.abc import Sequence
from typing import Any, Final

from node.rpc.problems import CONTENT_TYPE, REJECTIONS, REQUESTS
from node.rpc.routes import ROUTES, Route
from node.rpc.schemas import ID, SCHEMAS, TEXT, ref

OPENAPI_VERSION: Final = "3.1.0"
EVERY_ROUTE: Final = ("malformed", "internal", "damaged")

_PATH_PARAMETER: Final = re.compile(r"{(\w+)}")


def openapi(version: str) -> dict[str, Any]:
    """Return the document.

    Parameters
    ----------
    version : str
        The node's version.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "SecureNet node",
            "version": version,
            "description": "The HTTP RPC of a SecureNet node. docs/spec/rpc.md is normative.",
        },
        "paths": paths,
        "components": {"schemas": dict(SCHEMAS)},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z0-9]+', '_', route.path)}",
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": _responses(route),
    }
    if route.body:
        content = {media: {"schema": schema} for media, schema in route.body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": ID if name == "id" else TEXT}
        for name in _PATH_PARAMETER.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    properties = route.query.model_json_schema()["properties"] if route.query.model_fields else {}
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in properties.items()
    ]


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {
            "description": "Pooled, not final" if status == 202 else route.summary,
            "content": {route.media: {"schema": schema}},
        }
        for status, schema in route.answers.items()
    }
    by_status: dict[int, list[str]] = {}
    for code in (*EVERY_ROUTE, *route.codes):
        by_status.setdefault(REQUESTS[code][0], []).append(code)
    for code, (status, _) in REJECTIONS.items() if route.admits else ():
        if code not in by_status.setdefault(status, []):
            by_status[status].append(code)
    for status in sorted(by_status):
        responses[str(status)] = _problem(by_status[status])
    return responses


def _problem(codes: Sequence[str]) -> dict[str, Any]:
    schema = {"allOf": [ref("Problem"), {"properties": {"code": {"examples": list(codes)}}}]}
    return {"description": ", ".join(codes), "content": {CONTENT_TYPE: {"schema": schema}}}
