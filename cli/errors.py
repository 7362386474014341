"""Errors of the command line: the CLI's branch of the tree in :mod:`chain.errors`.

::

    CliError               says what is wrong and what to do, and has an exit code
    ├── BadInput           an argument or a file that is not what it should be
    │   └── OtherPromise   a participant is to add other noise than it has promised
    ├── Unreachable        no node answers at ``url``
    ├── Refused            the node answered with a problem document
    ├── NotFound           the node answered that it knows nothing of it
    ├── TimedOut           what was waited for did not happen in time
    │   └── WaitsForOthers nodes run, and can do nothing until others run too
    ├── PortTaken          ``port`` is in use
    ├── AlreadyThere       ``path`` would be overwritten
    ├── AlreadyProposed    the miners are asked already what would be proposed
    ├── NoKeyFile          there is no file of a key that should sign or read
    ├── NotRunning         a process that should run does not
    ├── NotForThisKey      a file is encrypted for others
    ├── Missed             what was checked or measured is not as it should be
    ├── HomeTaken          another participant uses the home directory
    └── Contradicted       a participant is shown another federated round than before
"""

from pathlib import Path
from typing import Final

from chain.errors import SecureNetError
from cli.exit_codes import ExitCode

ALREADY_THERE_ADVICE: Final = "choose another place, or remove it yourself"


class CliError(SecureNetError):
    """A command that cannot do what it was asked for.

    Parameters
    ----------
    what : str
        What is wrong, in one line.
    advice : str
        What to do about it, in one line.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice


class BadInput(CliError):
    """An argument or a file which is not what it should be."""

    exit_code = ExitCode.USAGE


class OtherPromise(BadInput):
    """A participant is to add other noise to its updates than was promised to its rows."""


class Unreachable(CliError):
    """Nobody answers at `url`, or not in the way of a node.

    Parameters
    ----------
    url : str
        Where a node was looked for.
    reason : str
        What happened.
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"no node answers at {url}: {reason}",
            "start one (securenet testnet up, securenet node run) or choose another with --rpc",
        )
        self.url = url


class Refused(CliError):
    """A problem document of the node.

    Parameters
    ----------
    status : int
        Of HTTP.
    code : str
        The stable word.
    detail : str
        What the node found.
    retry_after_s : float, optional
        When trying again may succeed.

    Notes
    -----
    A transaction that names what is not there is refused as 422, a path as 404; both end with 5.
    """

    def __init__(
        self, *, status: int, code: str, detail: str, retry_after_s: float | None = None
    ) -> None:
        what = detail if detail.startswith(f"{code}:") else f"{code}: {detail}"
        super().__init__(what, advice_on(code, status, retry_after_s))
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        if status == 404 or code == "not_found":
            self.exit_code = ExitCode.NOT_FOUND
        elif status in (429, 503):
            self.exit_code = ExitCode.BUSY
        else:
            self.exit_code = ExitCode.REFUSED


class NotFound(CliError):
    """Something of which the node knows nothing, which it does not call a problem."""

    exit_code = ExitCode.NOT_FOUND


class NotInSync(CliError):
    """A node that has to keep up, for what is asked of it, does not yet."""

    exit_code = ExitCode.BUSY

    def __init__(self, url: str) -> None:
        super().__init__(
            f"the node at {url} is not in sync with its chain",
            "wait until it is (securenet query status) and try again",
        )


class TimedOut(CliError):
    """What was waited for did not happen in time."""

    exit_code = ExitCode.TIMED_OUT


class WaitsForOthers(TimedOut):
    """A node that runs and is not ready, only because too few miners run."""


class PortTaken(CliError):
    """Another program listens on a port.

    Parameters
    ----------
    port : int
        The port.
    wanted_by : str
        The node that was to listen there.
    """

    exit_code = ExitCode.PORT_TAKEN

    def __init__(self, port: int, wanted_by: str) -> None:
        super().__init__(
            f"port {port}, where {wanted_by} is to listen, is in use by another program",
            "stop that program, or make a test network elsewhere (testnet init --base-port)",
        )
        self.port = port


class AlreadyThere(CliError):
    """A file or directory which would be overwritten."""

    exit_code = ExitCode.ALREADY_THERE

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is there already, and nothing is overwritten", ALREADY_THERE_ADVICE
        )
        self.path = path


class AlreadyProposed(CliError):
    """A proposal like one that is open.

    Parameters
    ----------
    proposal : str
        Id of the open one, in hex.
    is_approved : bool
        Whether the sender has voted for it.
    """

    exit_code = ExitCode.ALREADY_THERE

    def __init__(self, proposal: str, *, is_approved: bool) -> None:
        vote = f"securenet miner vote {proposal} --key FILE"
        super().__init__(
            f"the same is proposed already, as {proposal}",
            f"this miner's vote for it counts; the others vote: {vote}"
            if is_approved
            else f"vote for it: {vote}",
        )
        self.proposal = proposal


class NoKeyFile(CliError):
    """A key file which is not there."""

    exit_code = ExitCode.KEY

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"there is no key file {path}",
            "check the path: a test network has its registrar's in DIR/registrar.json, a node its "
            "miner's in HOME/keys/miner.json; securenet keys new makes a device's",
        )


class NotRunning(CliError):
    """A process which should run does not."""

    exit_code = ExitCode.NOT_RUNNING


class NotForThisKey(CliError):
    """A file which is not encrypted for the key that should open it."""

    exit_code = ExitCode.KEY

    def __init__(self, what: str) -> None:
        super().__init__(
            what, "name the key file of a reader with --key; its sender says who they are"
        )


class Missed(CliError):
    """What was checked or measured is not as it should be."""

    exit_code = ExitCode.MISSED


class HomeTaken(CliError):
    """Another participant of federated rounds uses a home directory.

    Parameters
    ----------
    folder : Path
        Where both would keep what they must not forget.
    holder : int or None
        Its process, as far as it is known.
    """

    exit_code = ExitCode.STORAGE

    def __init__(self, folder: Path, holder: int | None) -> None:
        by = "another process" if holder is None else f"process {holder}"
        super().__init__(
            f"{folder} is in use by another securenet fl join, {by}",
            "let it go on, or stop it first; another device takes a --home of its own",
        )


class Contradicted(CliError):
    """A participant is shown another federated round than the one it has acted in.

    Parameters
    ----------
    round_id : str
        The round, in hex.
    what : str
        What is another now.
    """

    exit_code = ExitCode.MISSED

    def __init__(self, round_id: str, what: str) -> None:
        super().__init__(
            f"federated round {round_id}: {what} is another than the one acted upon before",
            "the node, or whoever uses this device's key elsewhere, lies; sit this round out",
        )


_ADVICE = {
    "blobs_full": "wait until blobs have gone that nobody names, or hand it in at another node",
    "upload_forbidden": "run the command on the node's machine, or register the digest first",
    "acceptance_expired": "ask for another: securenet miner accept, or miner replace-keys",
    "already_appealed": "the registrar answers: see securenet device show",
    "already_convicted": "nothing is left to do: see securenet query evidence",
    "already_done": "it counts once: see securenet query rounds ID",
    "already_exists": "see what is there: securenet device list, miner list, query models",
    "already_voted": "nothing is left to do: a proposal has its proposer's vote, and no vote is "
    "changed; securenet query proposals shows how they stand",
    "bad_signature": "sign with the key that is registered for the sender: see securenet device "
    "show, organisation list, miner list",
    "damaged": "ask another node (--rpc); stop this one and run securenet db verify on it",
    "device_not_active": "see its state with securenet device show; resume or release it first",
    "duplicate": "it is on the chain already: securenet tx show ID",
    "expired": "see that this machine's clock is right and that securenet consensus why names "
    "nobody missing, and sign it again",
    "duplicate_update": "change the update in a single bit and commit it again",
    "malformed": "correct it as the message says; docs/spec has the forms",
    "loses_quorum": "restore or remove demoted miners, or add others, first: securenet miner list",
    "not_in_sync": "once the candidate's node keeps up, ask it for another: securenet miner accept",
    "not_permitted": "sign with the key of the role that this kind of transaction asks for; "
    "securenet organisation list and miner list show who has it",
    "proposal_closed": "nothing is left to do: securenet query proposals shows how it ended; "
    "propose anew what is still wanted",
    "not_found": "check the id or height: securenet query status shows how far the chain is; "
    "device list, miner list, model list, fl status and query proposals have the ids",
    "not_invited": "ask the coordinator of the federated round for a place in the next one",
    "pruned": "ask a node that keeps more (--rpc); first_heights of its status says what it keeps",
    "round_closed": "nothing is left to do in it (see securenet fl status); fl join waits for "
    "the next",
    "unauthorised_miner": "send it to a node that is an active miner (securenet miner list)",
    "unknown_device": "look its id up (securenet device list), or register it first: securenet "
    "device register",
    "wrong_base": "train from the base model of the federated round: securenet query rounds ID",
    "wrong_chain": "sign it anew for this chain; see securenet query status",
}


def advice_on(code: str, status: int, retry_after_s: float | None = None) -> str:
    """Return what to do about a refusal with this code."""
    if status in (429, 503):
        when = "a moment" if retry_after_s is None else f"{retry_after_s:g} s"
        return f"try again in {when}"
    if code in _ADVICE:
        return _ADVICE[code]
    if status == 404:
        return _ADVICE["not_found"]
    if status >= 500:
        return "see the node's log"
    return "correct the request as the message says"
