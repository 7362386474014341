"""A participant's own data, and the update that they make of the base model of a round."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from chain.federated.records import Terms
from chain.types import Digest
from cli.client import Client
from cli.errors import BadInput
from cli.models import fetch_model
from ml_validator import NSL_KDD_SCHEMA, Artifact
from ml_validator.federated.fixed_point import Floats
from ml_validator.federated.linear_update import Answers, Rows, parameter_count, read_rows, train
from ml_validator.labelled import Labelled
from ml_validator.linear import Linear
from ml_validator.nsl_kdd import TRAIN_FILE, read_records
from node.ports import Random


def linear_of(artifact: Artifact) -> Linear:
    """Return the linear model of an artefact; raises `BadInput` where it holds another."""
    if not isinstance(artifact.model, Linear):
        raise BadInput(
            f"model {artifact.digest.hex()} is not linear",
            "federated rounds train linear models: securenet model list",
        )
    return artifact.model


def read_labelled(data: Path, schema: Path | None, base: Artifact) -> Iterable[Labelled]:
    """Return the flows of a file or folder, which have to be those that `base` reads.

    Parameters
    ----------
    schema : Path or None
        What the columns of a CSV file are; without it, `data` are of NSL-KDD.

    Raises
    ------
    BadInput
        They are flows of another schema.
    ModelError
        They cannot be read.
    """
    if schema is None:
        if base.schema.digest != NSL_KDD_SCHEMA.digest:
            raise BadInput(
                f"the base model reads flows of {base.schema.name}, not of NSL-KDD",
                "say with --schema what the columns of --data are",
            )
        return read_records(rows_file(data))
    # Imported late: it takes as long as the rest of a participant's start.
    from cli.data_schema import load_schema_file
    from ml_validator.table_data import has_columns, label_rows
    from ml_validator.tables import read_table

    layout = load_schema_file(schema)
    if not has_columns(layout, base.schema):
        raise BadInput(
            f"{schema} has other columns than {base.schema.name}, which the base model reads",
            "take the schema file with which the base model was made",
        )
    return label_rows(read_table(data, layout).rows, base.schema)


def rows_file(data: Path) -> Path:
    """Return the file with the rows of `data`, which may be a folder with those of NSL-KDD."""
    return data / TRAIN_FILE if data.is_dir() else data


def check_rows(data: Path, schema: Path | None) -> None:
    """Read the rows before any model is known, to tell what is wrong with them early.

    What is no file, as a pipe, can be read but once, and is left to the round.

    Raises
    ------
    BadInput, ModelError
        They cannot be read, or there are none.
    """
    if not data.is_file() and not data.is_dir():
        return
    if schema is None:
        count = sum(1 for _ in read_records(rows_file(data)))
    else:
        from cli.data_schema import load_schema_file
        from ml_validator.tables import read_table

        count = len(read_table(data, load_schema_file(schema)).rows)
    if not count:
        raise BadInput(f"{rows_file(data)} has no rows", "name the file of your rows with --data")


class Shard:
    """The data of one participant; nothing of them leaves but updates.

    Parameters
    ----------
    rate : float
        Step size of local training.
    """

    def __init__(
        self, data: Path, schema: Path | None, *, client: Client, rate: float, random: Random
    ) -> None:
        self._data = data
        self._schema = schema
        self._client = client
        self._rate = rate
        self._random = random
        self._base: tuple[Digest, Linear] | None = None
        self._read: tuple[object, Rows, Answers] | None = None

    async def prepare(self, terms: Terms) -> None:
        """Fetch the base model of a round, and read the data as its rows.

        They are read once for all models with the same columns and caps, and again when the file
        has changed.

        Raises
        ------
        BadInput, ModelError
            The model is not one that is trained so, or the data do not fit it.
        Refused
            The node does not hold the model.
        """
        if self._base is not None and self._base[0] == terms.base:
            return
        artifact = await fetch_model(self._client, terms.base)
        model = linear_of(artifact)
        if parameter_count(model) != terms.parameter_count:
            raise BadInput(
                f"the federated round wants {terms.parameter_count} parameters, its base model has "
                f"{parameter_count(model)}",
                "sit this round out, and tell its coordinator",
            )
        kind = (artifact.schema.digest, model.cap.tobytes(), _state_of(self._data))
        if self._read is None or self._read[0] != kind:
            self._read = None
            rows, answers = await asyncio.to_thread(self._load, artifact, model)
            self._read = (kind, rows, answers)
        self._base = (terms.base, model)

    async def train(self, terms: Terms, steps: int) -> Floats:
        """Return the update that so many steps make; raises as `prepare`."""
        await self.prepare(terms)
        assert self._base is not None, "it was prepared"
        assert self._read is not None, "it was prepared"
        _, rows, answers = self._read
        chance = np.random.default_rng(int.from_bytes(self._random.bytes(16), "big"))
        return await asyncio.to_thread(
            train, self._base[1], rows, answers, steps=steps, rate=self._rate, random=chance
        )

    def _load(self, artifact: Artifact, model: Linear) -> tuple[Rows, Answers]:
        records = read_labelled(self._data, self._schema, artifact)
        return read_rows(records, base=model, schema=artifact.schema)


def _state_of(data: Path) -> tuple[int, int] | None:
    """Return what changes with a file; None where there is none, which reading it will tell."""
    try:
        found = rows_file(data).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
