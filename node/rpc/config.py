"""Where the RPC listens, and the rule that it is not read or changed on the way."""

import ssl
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from node.addresses import is_loopback
from node.errors import ConfigError

PORT_DEFAULT: Final = 26757


def check_host(host: str) -> str:
    """Return `host` if it can be looked up at all; raises `ValueError`."""
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"{host} is no name of a host") from error
    return host


Host = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[^\s/]+$"), AfterValidator(check_host)
]


class RpcConfig(BaseModel):
    """The section ``rpc`` of a node's configuration.

    Parameters
    ----------
    host : str
        Address or name to listen on.
    port : int
        0 lets the system choose.
    tls_certificate, tls_key : Path, optional
        PEM files of the certificate chain and of its private key; both or none.
    insecure : bool
        Whether to listen off loopback without TLS.

    Raises
    ------
    ConfigError
        Off loopback, without TLS and not `insecure`; or one of the two files without the other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Host = "127.0.0.1"
    port: int = Field(default=PORT_DEFAULT, ge=0, le=65_535)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError(
                "rpc.tls_certificate", "a certificate needs its key and the other way round"
            )
        if not (self.tls_certificate or self.insecure or is_loopback(self.host)):
            raise ConfigError(
                "rpc.host",
                f"{self.host} can be reached from outside; configure tls_certificate and tls_key, "
                "or say insecure = true where the network is trusted",
            )
        return self


def tls_context(config: RpcConfig) -> ssl.SSLContext | None:
    """Return the TLS of the RPC, or None where it has none.

    Raises
    ------
    ConfigError
        The certificate or its key cannot be used.
    """
    if config.tls_certificate is None or config.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise ConfigError(
            "rpc.tls_certificate",
            f"{config.tls_certificate} and {config.tls_key} are no certificate and its key in PEM "
            f"without a passphrase ({error})",
        ) from error
    return context


def _no_passphrase() -> str:
    """Answer OpenSSL in place of a prompt on the terminal, which nobody sees."""
    return ""
