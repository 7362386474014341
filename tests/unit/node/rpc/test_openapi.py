"""The OpenAPI document says what the routes do."""

import re

import msgpack
import pytest

from chain.kinds import KINDS
from node.rpc.app import create_app
from node.rpc.openapi import openapi
from node.rpc.problems import REJECTIONS
from node.rpc.routes import ROUTES
from tests.unit.node.rpc.a_round import play_round
from tests.unit.node.rpc.chain_node import FLOW

DOCUMENT = openapi("1.2.3")
SCHEMAS = DOCUMENT["components"]["schemas"]
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def walk(value):
    yield value
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            yield from walk(item)


def errors(schema, value, where="$"):
    """Return where `value` does not fit `schema`; the part of JSON Schema that we use."""
    if "$ref" in schema:
        return errors(SCHEMAS[schema["$ref"].rpartition("/")[2]], value, where)
    found = []
    variants = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if variants and all(errors(variant, value, where) for variant in variants):
        found.append(f"{where}: fits no variant")
    if "const" in schema and value != schema["const"]:
        found.append(f"{where}: not {schema['const']}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: not one of {schema['enum']}")
    if "type" in schema:
        kind = TYPES[schema["type"]]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            return [*found, f"{where}: not {schema['type']}"]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{where}: does not match")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [
            f"{where}.{name}: missing" for name in schema.get("required", []) if name not in value
        ]
        if known:
            found += [f"{where}.{name}: undescribed" for name in value if name not in known]
        for name, item in value.items():
            if name in known:
                found += errors(known[name], item, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += errors(schema["items"], item, f"{where}[{index}]")
    return found


def test_every_reference_leads_to_a_schema():
    references = {
        item["$ref"] for item in walk(DOCUMENT) if isinstance(item, dict) and "$ref" in item
    }

    assert references
    assert {ref.removeprefix("#/components/schemas/") for ref in references} <= set(SCHEMAS)


def test_every_schema_is_used():
    used = {
        item["$ref"].rpartition("/")[2]
        for item in walk(DOCUMENT)
        if isinstance(item, dict) and "$ref" in item
    }

    assert set(SCHEMAS) - used == {"Subscription"}


async def test_the_document_holds_every_route_and_nothing_else(node):
    described = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }

    served = {
        (route.method, route.resource and route.resource.canonical)
        for route in create_app(node).router.routes()
        if route.method != "HEAD"
    }
    assert described == served == {(route.method, route.path) for route in ROUTES}


def test_every_operation_has_its_path_parameters_and_one_name():
    operations = [
        (path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for operation in methods.values()
    ]

    for path, operation in operations:
        declared = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
        assert operation["responses"]
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids)


def test_the_query_of_a_list_is_described():
    parameters = DOCUMENT["paths"]["/v1/devices"]["get"]["parameters"]

    names = {item["name"] for item in parameters if item["in"] == "query"}
    assert names == {"cursor", "limit", "organisation", "status"}


def test_submitting_describes_every_code_of_algorithm_1():
    responses = DOCUMENT["paths"]["/v1/transactions"]["post"]["responses"]

    for code, (status, _) in REJECTIONS.items():
        assert code in responses[str(status)]["description"].split(", ")


def test_every_kind_of_transaction_is_described():
    assert {f"Transaction.{kind}" for kind in KINDS} <= set(SCHEMAS)


async def test_the_document_is_served(client):
    answer = await client.get("/openapi.json")

    assert (await answer.json())["openapi"] == "3.1.0"


@pytest.fixture
async def full(node):
    """Return a node whose chain holds something of everything."""
    await node.mine(node.report(0, FLOW))
    await node.mine(*(node.verdict(2, (999_999,), miner=miner) for miner in range(3)))
    await node.mine(node.evidence(3, reporter=0))
    await play_round(node)
    return node


@pytest.mark.parametrize(
    "route",
    [
        route
        for route in ROUTES
        if route.media == "application/json" and 200 in route.answers and route.method != "PUT"
    ],
    ids=lambda route: route.path,
)
async def test_answers_are_as_described(client, full, route):
    organisation = full.chain.block(1).transactions[0].payload.sender.hex()
    ids = {
        "devices": full.device(0).hex(),
        "evidence": full.chain.block(4).transactions[0].payload.sender.hex(),
        "organisations": organisation,
        "policies": organisation,
        "proposals": "00" * 32,
        "rounds": full.chain.block(6).transactions[0].id.hex(),
        "transactions": full.chain.block(3).transactions[0].id.hex(),
    }
    family = route.path.split("/")[2] if route.path.startswith("/v1/") else ""
    path = route.path.replace("{id}", ids.get(family, "")).replace("{block}", "3")

    if route.method == "POST":
        batch = [full.report(1).wire] if route.path.endswith("batch") else full.report(1).wire
        body = msgpack.packb(batch) if isinstance(batch, list) else batch
        answer = await client.post(path, data=body, headers={"Content-Type": "application/msgpack"})
    else:
        answer = await client.get(path)

    schema = SCHEMAS["Problem"] if answer.status == 404 else route.answers[answer.status]
    assert errors(schema, await answer.json()) == []


def test_the_check_finds_what_does_not_fit():
    assert errors(SCHEMAS["Live"], {"live": 1})
    assert errors(SCHEMAS["Live"], {})
    assert errors(SCHEMAS["Live"], {"live": True, "more": 1})
    assert errors(SCHEMAS["Results"], {"results": [{"id": "xx", "status": "pending"}]})
