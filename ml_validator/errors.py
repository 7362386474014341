"""The errors of models, features and data sets.

::

    SecureNetError
    └── ModelError
        ├── UnknownSchema        features whose meaning this build does not know
        ├── InvalidSchema        a feature schema that breaks a rule or a bound
        ├── InvalidFlow          a flow that does not fit its schema
        ├── MissingModel         a model that is not here, though the chain names it
        ├── RefusedModel         a model that is here, and by which no miner may judge
        ├── MalformedArtifact    bytes that are no model
        ├── MisregisteredModel   a model that the chain knows as what it is not
        ├── MalformedManifest    a manifest that is none, or of another model
        ├── InvalidDataset       a data set with a row that cannot be read
        │   └── ForeignDataset   one whose first row is of another form altogether
        ├── MissingDataset       a file that is not where it should be
        │   └── NoDataset        a folder without the data set, or none at all
        ├── AlteredDataset       a file that is not the genuine one
        ├── UntrainableData      rows from which no detector can be made
        │   └── NoThreshold      rows that a model does not tell apart well enough for any threshold
        ├── InvalidUpdate        an update that may not enter an aggregate
        ├── InvalidShare         shares that give no secret, or a key that agrees on none
        ├── VoidGroup            a group whose sum cannot be known or breaks a rule
        ├── TooFewContributions  fewer than an aggregation rule can stand on
        ├── PrivacySpent         a round that would tell more than a participant allows
        ├── NoiseChanged         a round that was told with other noise before
        └── UnexportableModel    a model that another form cannot hold
"""

from chain.errors import SecureNetError
from chain.types import Digest


class ModelError(SecureNetError):
    """Anything that goes wrong about models and what they read."""


class UnknownSchema(ModelError):
    """A feature schema that this build does not know, or not the one a model reads.

    Parameters
    ----------
    digest : Digest
        The schema that was found.
    where : str
        What carries it.
    """

    def __init__(self, digest: Digest, where: str) -> None:
        super().__init__(f"{where}: unknown feature schema {digest.hex()}")
        self.digest = digest
        self.where = where


class InvalidSchema(ModelError):
    """A feature schema which breaks a rule or a bound.

    Parameters
    ----------
    where : str
        The part that is wrong.
    reason : str
        What is wrong with it.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"feature schema, {where}: {reason}")
        self.where = where
        self.reason = reason


class InvalidFlow(ModelError):
    """A flow whose values do not fit its schema.

    Parameters
    ----------
    index : int
        Position of the flow among those given, from 0.
    column : str
        Name of the column, or the group of columns whose number is wrong.
    reason : str
        What is wrong with it.
    """

    def __init__(self, index: int, column: str, reason: str) -> None:
        super().__init__(f"flow {index}, {column}: {reason}")
        self.index = index
        self.column = column
        self.reason = reason


class MissingModel(ModelError):
    """A model that is not here.

    Parameters
    ----------
    model : Digest
        Its digest.
    """

    def __init__(self, model: Digest) -> None:
        super().__init__(f"model {model.hex()} is not here")
        self.model = model


class RefusedModel(ModelError):
    """A model that is here and must not judge: damaged, unreadable, or not what was registered."""


class MalformedArtifact(ModelError):
    """Bytes which are not the canonical artefact of a model.

    Parameters
    ----------
    where : str
        The part that is wrong, as ``feature`` or ``header``.
    reason : str
        What is wrong with it.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"model artefact, {where}: {reason}")
        self.where = where
        self.reason = reason


class MisregisteredModel(ModelError):
    """A model that the chain knows as what it is not.

    Parameters
    ----------
    where : str
        What differs, as ``threshold``.
    registered, found : str
        What the chain says, and what the model says.
    """

    def __init__(self, where: str, registered: str, found: str) -> None:
        super().__init__(f"the {where} of the model is {found}, registered is {registered}")
        self.where = where
        self.registered = registered
        self.found = found


class MalformedManifest(ModelError):
    """A manifest which cannot be read, or does not describe the model beside it.

    Parameters
    ----------
    where : str
        Key of the field.
    reason : str
        What is wrong with it.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"model manifest, {where}: {reason}")
        self.where = where
        self.reason = reason


class InvalidDataset(ModelError):
    """A file of a data set that cannot be read.

    Parameters
    ----------
    file : str
        Its path, as it was given.
    row : int
        Line, from 1.
    column : str
        Name of the column, or ``row`` where the line as a whole is wrong.
    reason : str
        What is wrong with it.
    """

    def __init__(self, file: str, row: int, column: str, reason: str) -> None:
        super().__init__(f"{file}, row {row}, {column}: {reason}")
        self.file = file
        self.row = row
        self.column = column
        self.reason = reason


class ForeignDataset(InvalidDataset):
    """A file of other data than what is read: its first row has another number of columns."""


class MissingDataset(ModelError):
    """A file of a data set that cannot be opened.

    Parameters
    ----------
    file : str
        Its path, as it was given.
    reason : str
        What the operating system said.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


class NoDataset(MissingDataset):
    """A folder which does not hold a file of a data set, or is not there itself."""

    def __init__(self, folder: str, file: str) -> None:
        super().__init__(folder, f"holds no {file}")

    def __str__(self) -> str:
        """Return the message, as a sentence about the folder."""
        return f"{self.file} {self.reason}"


class AlteredDataset(ModelError):
    """A file whose digest is not that of the genuine one.

    Parameters
    ----------
    file : str
        Its path, as it was given.
    expected, found : str
        SHA-256 in hex.
    """

    def __init__(self, file: str, expected: str, found: str) -> None:
        super().__init__(f"{file}: SHA-256 is {found}, that of the genuine file is {expected}")
        self.file = file
        self.expected = expected
        self.found = found


class UntrainableData(ModelError):
    """Rows from which no detector can be made, as none of them being normal."""


class NoThreshold(UntrainableData):
    """Rows of which too many normal ones have the highest score that a model gives."""


class InvalidUpdate(ModelError):
    """An update which may not enter an aggregate.

    Parameters
    ----------
    where : str
        What is wrong, as ``size`` or ``norm``.
    reason : str
        In words.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"update, {where}: {reason}")
        self.where = where
        self.reason = reason


class InvalidShare(ModelError):
    """Shares which give no secret, or a key that agrees on none.

    Parameters
    ----------
    owner : bytes
        Id of the participant whose secret it is, who made the shares.
    reason : str
        What is wrong with them.
    """

    def __init__(self, owner: bytes, reason: str) -> None:
        super().__init__(f"shares of {owner.hex()}: {reason}")
        self.owner = owner
        self.reason = reason


class VoidGroup(ModelError):
    """A group whose sum cannot be known, or which only a broken rule can explain.

    Parameters
    ----------
    group : int
        Its index in the federated round.
    reason : str
        Why.
    """

    def __init__(self, group: int, reason: str) -> None:
        super().__init__(f"group {group}: {reason}")
        self.group = group
        self.reason = reason


class TooFewContributions(ModelError):
    """Fewer contributions than an aggregation rule can stand on.

    Parameters
    ----------
    rule : str
        Name of the rule.
    count, needed : int
        How many there are and how many it needs.
    """

    def __init__(self, rule: str, count: int, needed: int) -> None:
        super().__init__(f"{rule} needs {needed} contributions, there are {count}")
        self.rule = rule
        self.count = count
        self.needed = needed


class UnexportableModel(ModelError):
    """A model that the form it should be written in cannot hold."""


class PrivacySpent(ModelError):
    """A federated round which would tell more than a participant allows.

    Parameters
    ----------
    epsilon, epsilon_max : float
        What would have been spent, and what may be.
    """

    def __init__(self, epsilon: float, epsilon_max: float) -> None:
        super().__init__(f"epsilon would be {epsilon:.3g}, at most {epsilon_max:g} is allowed")
        self.epsilon = epsilon
        self.epsilon_max = epsilon_max


class NoiseChanged(ModelError):
    """A federated round of which a ledger says that it was told with other noise than now.

    Parameters
    ----------
    round : Digest
        Which.
    """

    def __init__(self, round: Digest) -> None:
        super().__init__(f"federated round {round.hex()} was told with other noise")
        self.round = round
