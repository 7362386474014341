"""A Grid of Flower inside this process: each message goes to a ClientApp in a thread of its own."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity


class InProcessGrid(Grid):
    """Nodes by number, each with the settings that its SuperNode would have."""

    run = None

    def __init__(self, app: ClientApp, nodes: Mapping[int, dict[str, str]]) -> None:
        # That of a ServerApp's process.
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
        self._app = app
        self._nodes = nodes

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            return list(pool.map(self._answer, messages))

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(1, node, dict(self._nodes[node]), RecordDict(), {})
        try:
            return self._app(message, context)
        except Exception as error:  # as a SuperNode does
            return Message(Error(code=0, reason=str(error)), reply_to=message)

    def set_run(self, run: object) -> None: ...
    def create_message(self, *args, **kwargs): ...
    def push_messages(self, messages): ...
    def pull_messages(self, message_ids): ...
