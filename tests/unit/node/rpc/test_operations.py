"""Health, metrics, pages, and what holds for every route."""

import re

import pytest

from node.rpc.routes import ROUTES


async def test_a_serving_process_is_live(client):
    answer = await client.get("/health/live")

    assert (answer.status, await answer.json()) == (200, {"live": True})


async def test_a_node_that_keeps_up_is_ready(client, node):
    node.highest_seen = 3

    answer = await client.get("/health/ready?max_lag_blocks=2&min_peers=2")

    assert answer.status == 200
    assert await answer.json() == {"ready": True, "height": 1, "lag_blocks": 2, "peers": 2}


@pytest.mark.parametrize("query", ["max_lag_blocks=1", "min_peers=3"])
async def test_a_node_behind_or_alone_is_not_ready(client, node, query):
    node.highest_seen = 3

    answer = await client.get(f"/health/ready?{query}")

    assert (answer.status, (await answer.json())["code"]) == (503, "not_ready")


async def test_metrics_count_requests_under_their_route(client):
    await client.get("/v1/blocks/1")
    await client.get("/v1/blocks/77")
    await client.get("/nowhere/1")
    await client.get("/nowhere/2")

    answer = await client.get("/metrics")

    text = await answer.text()
    assert answer.headers["Content-Type"].startswith("text/plain")
    counts = dict(re.findall(r"securenet_rpc_requests_total\{(.*)\} (\S+)", text))
    assert counts['method="GET",route="/v1/blocks/{block}",status="200"'] == "1.0"
    assert counts['method="GET",route="/v1/blocks/{block}",status="404"'] == "1.0"
    assert counts['method="GET",route="unmatched",status="404"'] == "2.0"


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_the_pages_fetch_nothing_from_outside(client, path):
    answer = await client.get(path)

    page = await answer.text()
    assert answer.content_type == "text/html"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "://" not in page
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        file = await client.get(name)
        assert file.status == 200, name
        assert "innerHTML" not in await file.text()


async def test_a_file_that_is_not_there_is_not_found(client):
    for name in ("nothing.js", "..%2fapp.py", "%2e%2e%2fapp.py"):
        answer = await client.get(f"/static/{name}")
        assert answer.status == 404


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/", "/v2/status", "/v1/blobs"])
async def test_an_unknown_route_is_a_problem(client, path):
    answer = await client.get(path)

    assert (answer.status, (await answer.json())["code"]) == (404, "unknown_route")
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS", "PROPFIND"])
async def test_another_method_is_not_allowed(client, method):
    answer = await client.request(method, "/v1/status")

    assert (answer.status, (await answer.json())["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET,HEAD"


async def test_every_route_takes_head_where_it_takes_get(client):
    for route in ROUTES:
        if route.method == "GET" and "{" not in route.path and route.path != "/v1/events":
            assert (await client.head(route.path)).status == 200, route.path


async def test_answers_are_not_cached_and_not_sniffed(client):
    for path in ("/v1/status", "/nope", "/"):
        answer = await client.get(path)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "SecureNet"


async def test_a_node_that_has_not_heard_how_far_its_peers_are_is_not_ready(client, node):
    node.has_heard = False

    answer = await client.get("/health/ready")

    assert answer.status == 503
    assert (await answer.json())["code"] == "not_ready"
