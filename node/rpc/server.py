"""The listening RPC of a node."""

import asyncio
import logging
from typing import Final

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError

from node.api import NodeApi
from node.errors import ConfigError
from node.rpc.app import RPC, create_app
from node.rpc.config import RpcConfig, tls_context
from node.rpc.connections import Connections
from node.rpc.limits import HEADERS_MAX, LINE_SIZE_MAX, RpcLimits
from node.tasks import first_error

log = structlog.get_logger(__name__)

BACKLOG: Final = 128
"""Connections that the kernel completes ahead of `accept`; asyncio accepts so many at once, before
any of them is counted."""
LINGER_S: Final = 2.0
"""For the rest of a body that was refused: who is still sending reads no answer."""
SHUTDOWN_S: Final = 2.0
"""For requests under way when the node stops."""


class RpcServer:
    """Serves the RPC of `node` where `config` says.

    Parameters
    ----------
    limits : RpcLimits, optional
        Bounds and times.
    """

    def __init__(
        self,
        node: NodeApi,
        config: RpcConfig,
        *,
        limits: RpcLimits | None = None,
    ) -> None:
        self.listening = asyncio.Event()
        self._node = node
        self._config = config
        self._limits = limits or RpcLimits()
        self._port = config.port

    @property
    def port(self) -> int:
        """The port it listens on, once `listening` is set."""
        return self._port

    @property
    def url(self) -> str:
        """Where clients on this machine reach it, once `listening` is set."""
        scheme = "http" if self._config.tls_certificate is None else "https"
        host = self._config.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def run(self) -> None:
        """Serve until cancelled; then requests under way have two seconds.

        Raises
        ------
        ConfigError
            The address is not to be had, or the certificate cannot be used.
        """
        context = tls_context(self._config)
        app = create_app(self._node, limits=self._limits)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_http_log(),
            auto_decompress=False,
            # Connections are bounded, and so are handlers only if they end with theirs.
            handler_cancellation=True,
            keepalive_timeout=self._limits.idle_timeout_ms / 1000,
            lingering_time=LINGER_S,
            max_line_size=LINE_SIZE_MAX,
            max_field_size=LINE_SIZE_MAX,
            max_headers=HEADERS_MAX,
            shutdown_timeout=SHUTDOWN_S,
        )
        await runner.setup()
        try:
            assert runner.server is not None, "the runner is set up"
            with first_error():
                async with asyncio.TaskGroup() as group:
                    connections = Connections(
                        runner.server,
                        self._limits,
                        app[RPC].metrics,
                        group=group,
                        context=context,
                    )
                    server = await self._listen(connections)
                    self._port = server.sockets[0].getsockname()[1]
                    self.listening.set()
                    log.info("listening for requests", url=self.url)
                    try:
                        await asyncio.Event().wait()
                    finally:
                        server.close()
        finally:
            await runner.cleanup()

    async def _listen(self, connections: Connections) -> asyncio.Server:
        try:
            return await asyncio.get_running_loop().create_server(
                connections, self._config.host, self._config.port, backlog=BACKLOG
            )
        except OSError as error:
            raise ConfigError(
                "rpc.port",
                f"{self._config.host}:{self._config.port} is not to be had ({error.strerror})",
            ) from error


def _http_log() -> logging.Logger:
    """Return the log of aiohttp without what anybody can fill it with."""
    logger = logging.getLogger("node.rpc.http")
    logger.addFilter(_is_own_fault)
    return logger


def _is_own_fault(record: logging.LogRecord) -> bool:
    # Bytes that are no HTTP, and clients that leave before their body is complete.
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionError)
