"""What a client says of itself: the address, the scheme and the origin of a page, believed from whom it may come."""

import json
import socket
from typing import Any

import httpx2
import pytest
from sequencer_process import Sequencer, StartSequencer
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

# All of them are this machine's: one is the proxy that is trusted, the other somebody else.
PROXY, STRANGER = "127.0.0.2", "127.0.0.1"
KNOWN, FOREIGN = "https://known.example", "https://foreign.example"
PROTOCOLS = [Subprotocol("graphql-transport-ws"), Subprotocol("graphql-ws")]


@pytest.fixture(scope="module")
def sequencer(start_shared_sequencer: StartSequencer) -> Sequencer:
    return start_shared_sequencer(UVICORN_FORWARDED_ALLOW_IPS=PROXY, API_SERVER_CORS_ORIGINS=KNOWN)


def asked(sequencer: Sequencer, source: str, path: str, **headers: str) -> httpx2.Response:
    with httpx2.Client(
        base_url=sequencer.url, transport=httpx2.HTTPTransport(local_address=source, verify=False), trust_env=False
    ) as client:
        return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def line_about(sequencer: Sequencer, answer: httpx2.Response) -> dict[str, Any]:
    """Return the line of the log about a request."""
    request_id = answer.headers["x-request-id"]
    output = sequencer.service.wait_until_it_writes(request_id)
    (line,) = [json.loads(line) for line in output.splitlines() if request_id in line and "request answered" in line]
    return dict(line)


@pytest.mark.parametrize("forwarded", ["203.0.113.7", "198.51.100.1, 203.0.113.7", f"203.0.113.7, {PROXY}"])
def test_a_trusted_proxy_is_believed(sequencer: Sequencer, forwarded: str) -> None:
    answer = asked(sequencer, PROXY, "/version", X_Forwarded_For=forwarded, X_Forwarded_Proto="https")
    assert "strict-transport-security" in answer.headers
    assert line_about(sequencer, answer)["client"] == "203.0.113.7"


def test_somebody_else_is_not(sequencer: Sequencer) -> None:
    answer = asked(sequencer, STRANGER, "/version", X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https")
    assert "strict-transport-security" not in answer.headers
    assert line_about(sequencer, answer)["client"] == STRANGER


@pytest.mark.parametrize("forwarded", ["nobody", "\x1b[31m", "fe80::1%\x1b[31m", "1.2.3.4 x", "9" * 5000])
def test_an_address_that_is_none_is_not_written(sequencer: Sequencer, forwarded: str) -> None:
    answer = asked(sequencer, PROXY, "/version", X_Forwarded_For=forwarded)
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert line_about(sequencer, answer)["client"] in (None, "fe80::1")


@pytest.mark.parametrize("path", ["/a%0d%0alevel:%20error", "/a%1b%5b31m", "/a%00", "/" + "x" * 5000, "/%e2%80%a8"])
def test_a_path_is_one_line_of_the_log_and_not_a_long_one(sequencer: Sequencer, path: str) -> None:
    before = sequencer.service.log.count("\n")
    answer = asked(sequencer, STRANGER, path)
    assert answer.status_code == 404
    assert len(line_about(sequencer, answer)["path"]) <= 257
    assert sequencer.service.log.count("\n") == before + 1
    assert "\x1b" not in sequencer.service.log


@pytest.mark.parametrize("given", ["a\tb", "x" * 65, "<script>", "é", '"', "a b"])
def test_a_request_id_that_is_none_is_neither_logged_nor_sent_back(sequencer: Sequencer, given: str) -> None:
    answer = httpx2.get(f"{sequencer.url}/version", headers={b"X-Request-ID": given.encode()}, trust_env=False)
    assert "x-correlation-id" not in answer.headers
    assert "correlation_id" not in line_about(sequencer, answer)


def test_pages_of_a_foreign_origin_get_nothing(sequencer: Sequencer) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Authorization"}
    for origin in (FOREIGN, "null", f"{KNOWN}.evil.example", KNOWN.replace("https", "http")):
        headers = {"Origin": origin, "Cookie": "a=b", "Authorization": "Bearer ada"}
        answers = [
            sequencer.client.get("/version", headers=headers),
            sequencer.client.options("/graphql", headers={**headers, **preflight}),
            sequencer.client.post("/graphql", json={"query": "{version{name}}"}, headers=headers),
        ]
        for answer in answers:
            assert "access-control-allow-origin" not in answer.headers
            assert "access-control-allow-credentials" not in answer.headers
        assert answers[1].status_code == 400


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sockets_are_for_pages_of_origins_that_are_named(sequencer: Sequencer, protocol: Subprotocol) -> None:
    url = sequencer.url.replace("http", "ws") + "/graphql"
    for origin in (None, KNOWN, sequencer.url):
        with connect(url, subprotocols=[protocol], origin=Origin(origin) if origin else None) as opened:
            opened.send('{"type": "connection_init"}')
            assert json.loads(opened.recv(timeout=5))["type"] == "connection_ack"
    for foreign in (FOREIGN, "null", f"{KNOWN}.evil.example"):
        with pytest.raises(InvalidStatus, match="403"), connect(url, subprotocols=[protocol], origin=Origin(foreign)):
            pass


def test_what_only_a_form_can_send_is_not_taken(sequencer: Sequencer) -> None:
    """A form of any page reaches this service without a preflight, and in the name of who visits the page."""
    body = json.dumps({"query": "{version{name}}"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"):
        for path in ("/graphql", "/api/v1/throttle/plan", "/api/v1/plans", "/api/v1/presets"):
            answer = sequencer.client.post(path, content=body, headers={"Content-Type": kind})
            assert answer.status_code in (404, 415), (kind, path)


def test_batches_are_not_taken(sequencer: Sequencer) -> None:
    operation = {"query": "{version{name}}"}
    assert sequencer.client.post("/graphql", json=[operation, operation]).status_code == 400


def test_a_body_is_as_long_as_the_settings_say(sequencer: Sequencer) -> None:
    for path, limit in (("/graphql", 65_536), ("/api/v1/throttle/plan", 2**20)):
        for size, refused in ((limit, False), (limit + 1, True)):
            content = b"{}" + b" " * (size - 2)
            answer = sequencer.client.post(path, content=content, headers={"Content-Type": "application/json"})
            assert (answer.status_code == 413) is refused
    with socket.create_connection(("127.0.0.1", int(sequencer.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(b"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
