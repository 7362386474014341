"""The route table: the one list from which the application and its OpenAPI document are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from node.rpc import schemas
from node.rpc.bodies import JSON, MSGPACK
from node.rpc.context import Handler
from node.rpc.handlers import blobs, blocks, learning, operations, registry, transactions
from node.rpc.paging import (
    BlockPageQuery,
    DevicePageQuery,
    MeasurePageQuery,
    PageQuery,
    ProposalPageQuery,
    Query,
    ReadyQuery,
    RoundPageQuery,
    SubmitQuery,
)

HTML: Final = "text/html"
PLAIN: Final = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route.

    Parameters
    ----------
    query : type or None
        Model of its query parameters; None lets any pass.
    answers : mapping of int to dict
        The schema of the answer by status; statuses of errors follow from `codes`.
    codes : tuple of str
        Codes of `problems.REQUESTS` that it answers besides those of every route.
    admits : bool
        Whether it answers the refusals of Algorithm 1 and of the kinds, too.
    body : mapping of str to dict, optional
        The schema of the request's body by media type.
    media : str
        Media type of the answer.
    """

    path: str
    handler: Handler
    summary: str
    tag: str
    answers: Mapping[int, dict[str, Any]]
    method: str = "GET"
    query: type[Query] | None = Query
    codes: tuple[str, ...] = ()
    admits: bool = False
    body: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    media: str = JSON


_ref = schemas.ref
_page = schemas.page_of
_SUBMIT_CODES: Final = ("request_timeout", "too_large", "unsupported_media_type", "busy")

ROUTES: Final = (
    Route(
        path="/v1/status",
        handler=blocks.status,
        summary="How the node and its chain are doing",
        tag="chain",
        answers={200: _ref("Status")},
    ),
    Route(
        path="/v1/genesis",
        handler=blocks.genesis,
        summary="The genesis document",
        tag="chain",
        answers={200: _ref("Genesis")},
    ),
    Route(
        path="/v1/blocks",
        handler=blocks.blocks,
        summary="Blocks, the latest first",
        tag="chain",
        query=BlockPageQuery,
        answers={200: _page("Block")},
    ),
    Route(
        path="/v1/blocks/latest",
        handler=blocks.latest,
        summary="The last block",
        tag="chain",
        answers={200: _ref("Block")},
    ),
    Route(
        path="/v1/blocks/{block}",
        handler=blocks.block,
        summary="A block by height or hash",
        tag="chain",
        answers={200: _ref("Block")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/blocks/{block}/proof",
        handler=blocks.proof,
        summary="What proves the events of a block's end",
        tag="chain",
        answers={200: _ref("BlockProof")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/params",
        handler=blocks.parameters,
        summary="The parameters in force",
        tag="chain",
        answers={200: _ref("Parameters")},
    ),
    Route(
        path="/v1/consensus",
        handler=blocks.consensus,
        summary="What agreement waits for: who voted, who is missing, since when",
        tag="chain",
        answers={200: _ref("Consensus")},
        codes=("not_ready",),
    ),
    Route(
        method="POST",
        path="/v1/transactions",
        handler=transactions.submit,
        summary="Hand in a transaction; with wait=commit wait for its receipt",
        tag="transactions",
        query=SubmitQuery,
        body={MSGPACK: _ref("TransactionBytes"), JSON: _ref("Transaction")},
        answers={
            200: _ref("TransactionStatus"),
            202: {"anyOf": [_ref("Pooled"), _ref("TransactionStatus")]},
        },
        codes=(*_SUBMIT_CODES, "mempool_full"),
        admits=True,
    ),
    Route(
        method="POST",
        path="/v1/transactions/batch",
        handler=transactions.submit_batch,
        summary="Hand in many transactions; one result each, in order",
        tag="transactions",
        body={MSGPACK: _ref("TransactionBatchBytes"), JSON: _ref("TransactionBatch")},
        answers={200: _ref("Results")},
        codes=_SUBMIT_CODES,
    ),
    Route(
        path="/v1/transactions/{id}",
        handler=transactions.transaction,
        summary="Where a transaction is in its life",
        tag="transactions",
        answers={200: _ref("TransactionStatus")},
    ),
    Route(
        path="/v1/transactions/{id}/proof",
        handler=transactions.proof,
        summary="What proves a committed transaction and its receipt",
        tag="transactions",
        answers={200: _ref("TransactionProof")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/devices",
        handler=registry.devices,
        summary="Registered devices",
        tag="registry",
        query=DevicePageQuery,
        answers={200: _page("Device")},
    ),
    Route(
        path="/v1/devices/{id}",
        handler=registry.device,
        summary="A device",
        tag="registry",
        answers={200: _ref("Device")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/devices/{id}/transactions",
        handler=registry.device_transactions,
        summary="What a device sent, oldest first",
        tag="registry",
        query=PageQuery,
        answers={200: _page("SentTransaction")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/devices/{id}/budget",
        handler=registry.device_budget,
        summary="What a device may still send",
        tag="registry",
        answers={200: _ref("Budget")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/devices/{id}/behaviour",
        handler=registry.device_behaviour,
        summary="How a device behaves, against its own past and its organisation's devices",
        tag="registry",
        answers={200: _ref("Behaviour")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/devices/{id}/proof",
        handler=registry.device_proof,
        summary="What proves a device's record, or that there is none",
        tag="registry",
        answers={200: _ref("DeviceProof")},
    ),
    Route(
        path="/v1/organisations",
        handler=registry.organisations,
        summary="Organisations",
        tag="registry",
        query=PageQuery,
        answers={200: _page("Organisation")},
    ),
    Route(
        path="/v1/organisations/{id}",
        handler=registry.organisation,
        summary="An organisation",
        tag="registry",
        answers={200: _ref("Organisation")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/policies/{id}",
        handler=registry.policy,
        summary="What happens to an organisation's devices whose flows are anomalous too often",
        tag="registry",
        answers={200: _ref("Policy")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/miners",
        handler=registry.miners,
        summary="Miners",
        tag="governance",
        query=PageQuery,
        answers={200: _page("Miner")},
    ),
    Route(
        path="/v1/proposals",
        handler=registry.proposals,
        summary="Governance proposals",
        tag="governance",
        query=ProposalPageQuery,
        answers={200: _page("Proposal")},
    ),
    Route(
        path="/v1/proposals/{id}",
        handler=registry.proposal,
        summary="A governance proposal",
        tag="governance",
        answers={200: _ref("Proposal")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/measures",
        handler=registry.measures,
        summary="The last measure against each device that verdicts have brought one upon",
        tag="registry",
        query=MeasurePageQuery,
        answers={200: _page("Measure")},
    ),
    Route(
        path="/v1/evidence",
        handler=registry.evidence,
        summary="Of what miners were convicted, each of the last time",
        tag="governance",
        query=PageQuery,
        answers={200: _page("Evidence")},
    ),
    Route(
        path="/v1/evidence/{id}/proof",
        handler=registry.evidence_proof,
        summary="What proves that a miner was convicted, or that it never was",
        tag="governance",
        answers={200: _ref("EvidenceProof")},
    ),
    Route(
        path="/v1/models",
        handler=learning.models,
        summary="Registered models",
        tag="learning",
        query=PageQuery,
        answers={200: _page("Model")},
    ),
    Route(
        path="/v1/verdicts",
        handler=learning.verdicts,
        summary="What detectors said of the flows of blocks, oldest first",
        tag="learning",
        query=PageQuery,
        answers={200: _page("Verdict")},
    ),
    Route(
        path="/v1/rounds",
        handler=learning.rounds,
        summary="Federated rounds",
        tag="learning",
        query=RoundPageQuery,
        answers={200: _page("RoundSummary")},
    ),
    Route(
        path="/v1/rounds/{id}",
        handler=learning.round_,
        summary="A federated round",
        tag="learning",
        answers={200: _ref("Round")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/rounds/{id}/proof",
        handler=learning.round_proof,
        summary="What proves a federated round, or that there is none",
        tag="learning",
        answers={200: _ref("RoundProof")},
    ),
    Route(
        path="/v1/rounds/{id}/shares",
        handler=learning.shares,
        summary="What members of an open round have handed to each other",
        tag="learning",
        query=PageQuery,
        answers={200: _page("RoundShares")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/rounds/{id}/shares/{device}/proof",
        handler=learning.shares_proof,
        summary="What proves what a member has handed to the others, or that there is nothing",
        tag="learning",
        answers={200: _ref("RoundSharesProof")},
    ),
    Route(
        path="/v1/rounds/{id}/revealed",
        handler=learning.revealed,
        summary="The shares that members of an open round have revealed",
        tag="learning",
        query=PageQuery,
        answers={200: _page("RoundReveal")},
        codes=("not_found",),
    ),
    Route(
        path="/v1/blobs/{id}",
        handler=blobs.blob,
        summary="A blob by digest; a Range asks for a part",
        tag="blobs",
        answers={200: schemas.BINARY, 206: schemas.BINARY},
        codes=("not_found", "range_not_satisfiable"),
        media=blobs.OCTETS,
    ),
    Route(
        method="PUT",
        path="/v1/blobs/{id}",
        handler=blobs.put_blob,
        summary="Hand in a blob under its digest; one that is held already is no error",
        tag="blobs",
        body={blobs.OCTETS: schemas.BINARY},
        answers={200: _ref("Blob")},
        codes=(
            "upload_forbidden",
            "request_timeout",
            "length_required",
            "too_large",
            "wrong_digest",
            "busy",
            "blobs_full",
        ),
    ),
    Route(
        path="/v1/events",
        handler=operations.events,
        summary="A WebSocket that follows the chain; its first message is a Subscription",
        tag="events",
        answers={101: _ref("StreamMessage")},
        codes=("forbidden_origin", "busy"),
    ),
    Route(
        path="/health/live",
        handler=operations.live,
        summary="Whether the process serves",
        tag="operations",
        query=None,
        answers={200: _ref("Live")},
    ),
    Route(
        path="/health/ready",
        handler=operations.ready,
        summary="Whether the node keeps up and has peers enough",
        tag="operations",
        query=ReadyQuery,
        answers={200: _ref("Ready")},
        codes=("not_ready",),
    ),
    Route(
        path="/metrics",
        handler=operations.metrics,
        summary="Metrics in the format of Prometheus",
        tag="operations",
        query=None,
        answers={200: schemas.TEXT},
        media=PLAIN,
    ),
    Route(
        path="/openapi.json",
        handler=operations.openapi,
        summary="This document",
        tag="operations",
        query=None,
        answers={200: _ref("Nothing")},
    ),
    Route(
        path="/docs",
        handler=operations.docs,
        summary="The page that shows this interface",
        tag="operations",
        query=None,
        answers={200: schemas.TEXT},
        media=HTML,
    ),
    Route(
        path="/",
        handler=operations.explorer,
        summary="The explorer",
        tag="operations",
        query=None,
        answers={200: schemas.TEXT},
        media=HTML,
    ),
    Route(
        path="/static/{name}",
        handler=operations.static,
        summary="A file of the two pages",
        tag="operations",
        query=None,
        answers={200: schemas.TEXT},
        codes=("not_found",),
        media=PLAIN,
    ),
)
"""Every route. A further one is a handler and its entry here; more specific paths come first."""
