"""Options of commands on data that hold for NSL-KDD or for tables alone."""

from pathlib import Path

from cli.errors import BadInput


def check_for_nsl_kdd(test: Path | None) -> None:
    """Refuse what is for CSV files with a schema."""
    if test is not None:
        raise BadInput("--test is for CSV files", "give --schema too")


def check_for_tables(*, traffic_only: bool) -> None:
    """Refuse what is for NSL-KDD."""
    if traffic_only:
        raise BadInput("--traffic-only is for NSL-KDD", "ignore columns in the schema file instead")
