"""Emptying a home, so that its node fetches the chain from its peers again.

Keys and configuration stay. Without a floor the miner has lost its memory, and is silent until the
others tell it up to where (DESIGN rule 6); with a floor its operator vouches for that it has signed
nothing above. docs/operating.md says what that risks.
"""

import shutil
from contextlib import closing
from pathlib import Path

from chain.types import Height
from consensus.durable import Floor, encode_record
from node.home import Home
from node.ports import Random
from node.storage.files import storage_error, sync_directory
from node.storage.lock import HomeLock
from node.storage.wal import Wal


def reset_home(
    path: Path, *, signer_floor: int | None, keeps_chain: bool = False, random: Random
) -> None:
    """Remove chain and consensus log of a home whose node does not run.

    Parameters
    ----------
    signer_floor : int, optional
        The miner signs above this height alone, and at once.
    keeps_chain : bool, optional
        Only the log is removed: a single miner has nobody to fetch the chain from.

    Raises
    ------
    StorageError
        A node runs on it, or the disk refused. It is safe to call it again.
    """
    home = Home(path)
    with HomeLock(path):
        try:
            # The log first: a miner without one is silent, wherever this is interrupted.
            for file in (home.log, home.log.with_name(home.log.name + ".new")):
                file.unlink(missing_ok=True)
            if home.log.parent.is_dir():
                sync_directory(home.log.parent)
            if home.chain.is_dir() and not keeps_chain:
                shutil.rmtree(home.chain)
                sync_directory(home.chain.parent)
        except OSError as error:
            raise storage_error(path, error) from error
        if signer_floor is not None:
            with closing(Wal(home.log, random=random)) as wal:
                wal.append([encode_record(Floor(height=Height(signer_floor + 1)))])
