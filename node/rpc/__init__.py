"""The HTTP RPC of a node. docs/spec/rpc.md is normative."""

from node.rpc.app import create_app
from node.rpc.config import RpcConfig
from node.rpc.limits import RpcLimits
from node.rpc.server import RpcServer

__all__ = ["RpcConfig", "RpcLimits", "RpcServer", "create_app"]
