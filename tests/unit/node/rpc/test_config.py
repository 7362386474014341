"""Where the RPC may listen."""

import pytest
from pydantic import ValidationError

from node.addresses import is_loopback
from node.errors import ConfigError
from node.rpc.config import RpcConfig, tls_context


def test_it_listens_on_loopback_unless_told_otherwise():
    config = RpcConfig()

    assert (config.host, config.port) == ("127.0.0.1", 26757)
    assert is_loopback(config.host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "node.example"])
def test_off_loopback_it_wants_tls_or_to_be_told_insecure(host, tmp_path):
    with pytest.raises(ConfigError, match=r"rpc\.host"):
        RpcConfig(host=host)

    assert RpcConfig(host=host, insecure=True).host == host
    files = {"tls_certificate": tmp_path / "c.pem", "tls_key": tmp_path / "k.pem"}
    assert RpcConfig(host=host, **files).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_neither(host):
    assert RpcConfig(host=host).host == host


def test_a_certificate_without_its_key_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs its key"):
        RpcConfig(tls_certificate=tmp_path / "c.pem")
    with pytest.raises(ConfigError, match="needs its key"):
        RpcConfig(tls_key=tmp_path / "k.pem")


@pytest.mark.parametrize("value", [{"port": -1}, {"port": 65_536}, {"host": ""}, {"hots": "x"}])
def test_values_out_of_range_are_refused(value):
    with pytest.raises(ValidationError):
        RpcConfig(**value)


def test_a_certificate_that_is_none_is_refused_with_its_name(tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_text("no certificate")
    key.write_text("no key")

    with pytest.raises(ConfigError, match=r"c\.pem"):
        tls_context(RpcConfig(tls_certificate=certificate, tls_key=key))
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        tls_context(RpcConfig(tls_certificate=tmp_path / "absent.pem", tls_key=key))


def test_without_a_certificate_there_is_no_tls():
    assert tls_context(RpcConfig()) is None
