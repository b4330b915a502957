"""One POST against receivers that do their worst: real sockets, one deadline."""

import socket
import ssl
import time
from collections.abc import Iterator, Sequence

import pytest
import trustme

from service.errors import ReceiverUnreachable
from service.webhooks.outbound import Outbound, Reply
from service.webhooks.receiver import ReceiverRules
from tests.service.webhooks import receiver as hostile
from tests.service.webhooks.receiver import Behaviour, HookReceiver, answer

DEADLINE_SECONDS = 1.0


@pytest.fixture
def outbound(loopback_rules: ReceiverRules) -> Outbound:
    return Outbound(loopback_rules, timeout_seconds=DEADLINE_SECONDS)


def test_what_is_sent_arrives_and_status_and_retry_after_come_back(outbound: Outbound, receiver: HookReceiver) -> None:
    receiver.behaviour = answer(503, Retry_After="17")

    reply = outbound.post(receiver.url + "?a=b", headers={"X-Ours": "1"}, body=b"{}")

    assert reply == Reply(status=503, retry_after="17")
    [received] = receiver.received
    assert received.line == "POST /hook?a=b HTTP/1.1"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (received.headers["x-ours"], received.body) == ("1", b"{}")


def test_a_redirect_is_an_answer_and_is_not_followed(outbound: Outbound, receiver: HookReceiver) -> None:
    receiver.behaviour = answer(302, Location=receiver.url)

    assert outbound.post(receiver.url, headers={}, body=b"").status == 302
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (hostile.hang, "No reply within 1 s"),
        (hostile.drip, "No reply within 1 s"),
        (hostile.continue_for_ever, "No reply within 1 s"),
        (hostile.endless_headers, "No valid reply"),
        (hostile.garbage, "No valid reply"),
        (hostile.silence, "No valid reply"),
        (lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nX: a\r\n\x00b\r\n\r\n"), "No valid reply"),
        (lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"), "No valid reply"),
    ],
    ids=["hang", "drip", "continue", "endless headers", "garbage", "silence", "bad header", "another protocol"],
)
def test_a_hostile_receiver_costs_a_bounded_time_and_has_a_reason(
    outbound: Outbound, receiver: HookReceiver, behaviour: Behaviour, reason: str
) -> None:
    receiver.behaviour = behaviour
    started = time.monotonic()

    with pytest.raises(ReceiverUnreachable, match=reason):
        outbound.post(receiver.url, headers={}, body=b"{}")

    assert time.monotonic() - started < DEADLINE_SECONDS + 1


def test_an_endless_body_is_not_read(outbound: Outbound, receiver: HookReceiver) -> None:
    receiver.behaviour = hostile.endless_body

    assert outbound.post(receiver.url, headers={}, body=b"{}").status == 200


def test_a_receiver_that_is_not_there_is_a_failure(outbound: Outbound) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(ReceiverUnreachable, match="refused"):
        outbound.post(f"http://127.0.0.1:{port}/", headers={}, body=b"")


def test_a_name_whose_first_address_does_not_answer_is_reached_at_its_second(
    loopback_rules: ReceiverRules, receiver: HookReceiver
) -> None:
    outbound = Outbound(loopback_rules, timeout_seconds=5, resolve=lambda _host, _port: ["127.0.0.9", "127.0.0.1"])

    assert outbound.post(f"http://hooks.example:{receiver.port}/", headers={}, body=b"").status == 204
    assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"


def test_a_proxy_in_the_environment_is_not_used(
    outbound: Outbound, receiver: HookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert outbound.post(receiver.url, headers={}, body=b"").status == 204


class TestTls:
    """The name in the URL is what the certificate must show, whatever address it is pinned to."""

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def tls_receiver(self, authority: trustme.CA) -> Iterator[HookReceiver]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("hooks.example").configure_cert(context)
        with HookReceiver(tls=context) as opened:
            yield opened

    @pytest.fixture
    def trusting(self, authority: trustme.CA, loopback_rules: ReceiverRules) -> Outbound:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return Outbound(loopback_rules, timeout_seconds=5, resolve=resolve_to_loopback, tls=context)

    def test_a_certificate_of_that_name_is_accepted(self, trusting: Outbound, tls_receiver: HookReceiver) -> None:
        assert trusting.post(f"https://hooks.example:{tls_receiver.port}/", headers={}, body=b"{}").status == 204

    def test_a_certificate_of_another_name_is_refused(self, trusting: Outbound, tls_receiver: HookReceiver) -> None:
        with pytest.raises(ReceiverUnreachable, match="certificate"):
            trusting.post(f"https://other.example:{tls_receiver.port}/", headers={}, body=b"{}")

        assert tls_receiver.received == []

    def test_an_authority_that_nobody_knows_is_refused(
        self, loopback_rules: ReceiverRules, tls_receiver: HookReceiver
    ) -> None:
        stranger = Outbound(loopback_rules, timeout_seconds=5, resolve=resolve_to_loopback)

        with pytest.raises(ReceiverUnreachable, match="certificate"):
            stranger.post(f"https://hooks.example:{tls_receiver.port}/", headers={}, body=b"{}")

    def test_a_handshake_that_never_ends_costs_a_bounded_time(self, outbound: Outbound) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(ReceiverUnreachable, match="No reply within"):
                outbound.post(f"https://127.0.0.1:{port}/", headers={}, body=b"{}")


def resolve_to_loopback(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]
