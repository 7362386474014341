"""Flows: the columns that compare a connection with those before it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.nsl_kdd import CONTENT_FEATURES
from ml_validator.traffic.connections import Connection
from ml_validator.traffic.windows import (
    HOST_WINDOW,
    REJ_ERRORS,
    SYN_ERRORS,
    TIME_WINDOW_MAX,
    flows_of,
)

NAMES = [column.name for column in NSL_KDD_SCHEMA.integers]
BASE = Connection(
    start_us=0,
    duration_us=1_900_000,
    protocol="tcp",
    source="192.0.2.1",
    source_port=40_000,
    destination="198.51.100.7",
    destination_port=80,
    service="http",
    flag="SF",
    src_bytes=100,
    dst_bytes=1000,
)


def at(seconds: float, **changed) -> Connection:
    return replace(BASE, start_us=int(seconds * 1_000_000), **changed)


def last_of(*connections: Connection) -> dict[str, int]:
    """Return the columns of the flow of the connection that began last."""
    *_, flow = flows_of(connections)
    return dict(zip(NAMES, flow.integers, strict=True))


def test_a_lone_connection_is_compared_with_itself():
    columns = last_of(at(5))
    assert (columns["duration"], columns["src_bytes"], columns["dst_bytes"]) == (1, 100, 1000)
    assert [columns[name] for name in ("count", "srv_count")] == [1, 1]
    assert [columns[name] for name in ("dst_host_count", "dst_host_srv_count")] == [1, 1]
    ones = {"same_srv_rate", "dst_host_same_srv_rate", "dst_host_same_src_port_rate"}
    for name in NAMES:
        if name.endswith("_rate"):
            assert columns[name] == (100 if name in ones else 0), name
    assert all(columns[name] == 0 for name in CONTENT_FEATURES)


def test_what_began_within_two_seconds_counts():
    earlier = (at(0), at(1), at(2.5, destination="203.0.113.9"), at(2.6, service="ssh"))
    columns = last_of(*earlier, at(3))
    # At second 3: those of 1, 2.6 and 3 go to the host; those of 1, 2.5 and 3 to the service.
    assert (columns["count"], columns["srv_count"]) == (3, 3)
    assert columns["same_srv_rate"] == 67
    assert columns["diff_srv_rate"] == 67
    assert columns["srv_diff_host_rate"] == 67
    assert (columns["dst_host_count"], columns["dst_host_srv_count"]) == (4, 4)
    assert columns["dst_host_same_srv_rate"] == 75
    assert columns["dst_host_diff_srv_rate"] == 50
    assert columns["dst_host_srv_diff_host_rate"] == 50
    assert columns["dst_host_same_src_port_rate"] == 100


def test_errors_are_shares_of_the_host_and_of_the_service():
    columns = last_of(
        at(0, flag="S0"),
        at(0.1, flag="REJ", service="ssh"),
        at(0.2, flag="S0", destination="203.0.113.9"),
        at(0.3),
    )
    assert (columns["serror_rate"], columns["rerror_rate"]) == (33, 33)
    assert (columns["srv_serror_rate"], columns["srv_rerror_rate"]) == (67, 0)
    assert (columns["dst_host_serror_rate"], columns["dst_host_rerror_rate"]) == (33, 33)
    assert (columns["dst_host_srv_serror_rate"], columns["dst_host_srv_rerror_rate"]) == (67, 0)


def test_ports_of_the_source_count_among_those_to_the_host():
    columns = last_of(*(at(0.1 * i, source_port=1000 + i % 2) for i in range(3)))
    assert columns["dst_host_same_src_port_rate"] == 67


def test_windows_end_where_those_of_the_data_set_do():
    columns = last_of(*(at(i / 1000) for i in range(700)))
    assert columns["count"] == columns["srv_count"] == TIME_WINDOW_MAX == 511
    assert columns["dst_host_count"] == columns["dst_host_srv_count"] == HOST_WINDOW == 255


def test_flows_come_in_the_order_of_their_beginnings():
    flows = list(flows_of([at(3, src_bytes=3), at(1, src_bytes=1), at(2, src_bytes=2)]))
    assert [flow.integers[NAMES.index("src_bytes")] for flow in flows] == [1, 2, 3]
    assert flows[0].categories == ("tcp", "http", "SF")


def test_a_connection_to_itself_is_land():
    assert last_of(at(0, source=BASE.destination, source_port=80))["land"] == 1


connections = st.builds(
    replace,
    st.just(BASE),
    start_us=st.integers(-5_000_000, 5_000_000),
    destination=st.sampled_from(["a", "b", "c"]),
    source_port=st.integers(1, 3),
    service=st.sampled_from(["http", "ssh", "other"]),
    flag=st.sampled_from(NSL_KDD_SCHEMA.categories[2].values),
)


@given(st.lists(connections, max_size=40))
def test_columns_follow_from_each_other_as_in_the_data_set(several):
    flows = list(flows_of(several))
    assert len(flows) == len(several)
    for flow in flows:
        assert NSL_KDD_SCHEMA.fits(flow)
        columns = dict(zip(NAMES, flow.integers, strict=True))
        flag = flow.categories[2]
        assert all(columns[name] <= 100 for name in NAMES if name.endswith("_rate"))
        for count, prefix in (("count", ""), ("dst_host_count", "dst_host_")):
            if columns[count] == 1:
                assert columns[f"{prefix}serror_rate"] == 100 * (flag in SYN_ERRORS)
                assert columns[f"{prefix}rerror_rate"] == 100 * (flag in REJ_ERRORS)
                assert columns[f"{prefix}same_srv_rate"] == 100
            if columns[f"{prefix}same_srv_rate"] == 100:
                assert columns[f"{prefix}diff_srv_rate"] == 0
            else:
                assert columns[f"{prefix}diff_srv_rate"] > 0
