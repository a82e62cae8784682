"""An Aurora cluster as far as a script can tell: moto's RDS and EC2, a stand-in for SSM, two real servers."""

import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import httpx2
import psycopg
from api_server.local.postgres import PostgresAddress, PostgresCluster
from api_server.testing import ServiceProcess, clean_environment
from psycopg import sql

REGION, CLUSTER, DATABASE, PASSWORD = "eu-west-1", "demo", "throttling_sequencer", "postgres"
MEMBERS = ("demo-one", "demo-two")
# A bastion that only SSM knows, not EC2.
MANAGED = "mi-0fedcba9876543210"
# Durability of data that is thrown away costs time and gives nothing.
THROWAWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")

_TOLD = b"<FailoverDBClusterResponse><FailoverDBClusterResult/></FailoverDBClusterResponse>"


@dataclass
class Node:
    """A member of the cluster: a server that takes writes, or is in recovery as a reader is."""

    cluster: PostgresCluster
    address: PostgresAddress

    def promote(self) -> None:
        with psycopg.connect(self.address.url, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def demote(self) -> None:
        self.cluster.stop()
        (self.cluster.data / "standby.signal").touch()
        self.cluster.start()

    @property
    def is_in_recovery(self) -> bool:
        with psycopg.connect(self.address.url) as connection:
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        assert row is not None
        return bool(row[0])


@dataclass
class Cloud:
    """What a test may look at, and how it makes things go wrong."""

    nodes: dict[str, Node]
    moto: str
    url: str = ""
    bastion: str = ""
    endpoints: dict[str, str] = field(default_factory=dict)
    writer: str = MEMBERS[0]
    asked: Counter[str] = field(default_factory=Counter)
    # How many times the cluster is asked for until the writer moves, after it was told to; None: it does not.
    looks_until_it_moves: int | None = 1
    # How many sessions of each role are led to where the endpoint's name led before the writer moved.
    stale_sessions: int = 0
    # An operation that is refused, and by which error.
    refused: tuple[str, str] | None = None
    _pending: tuple[bytes, dict[str, str]] | None = None
    _stale: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def reader(self) -> str:
        return next(name for name in MEMBERS if name != self.writer)

    def reset(self) -> None:
        self.asked.clear()
        self._stale.clear()
        self._pending = None
        self.looks_until_it_moves, self.stale_sessions, self.refused = 1, 0, None

    def call(self, service: str, action: str, **parameters: str) -> str:
        """Call moto past the gateway."""
        scope = f"AWS4-HMAC-SHA256 Credential=x/20260101/{REGION}/{service}/aws4_request"
        answer = httpx2.post(
            self.moto, data={"Action": action, **parameters}, headers={"Authorization": f"{scope}, Signature=0"}
        )
        assert answer.status_code == 200, answer.text
        return answer.text

    def fail_over(self) -> None:
        """Move the writer, as whoever else may."""
        self.call("rds", "FailoverDBCluster", DBClusterIdentifier=CLUSTER)
        self._moved()

    def answer(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        with self._lock:
            operation = headers.get("x-amz-target", "").rpartition(".")[2]
            action = operation or parse_qs(body.decode())["Action"][0]
            self.asked[action] += 1
            if self.refused is not None and self.refused[0] == action:
                return 403, _error(self.refused[1]).encode()
            if action == "StartSession":
                return self._session(json.loads(body))
            if action == "FailoverDBCluster":
                self._pending = body, headers
                self.asked["DescribeDBClusters"] = 0
                return 200, _TOLD
            if self._pending is not None and self.asked["DescribeDBClusters"] == self.looks_until_it_moves:
                self._forward(*self._pending)
                self._pending = None
                self._moved()
            return self._forward(body, headers)

    def _forward(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        kept = {name: value for name, value in headers.items() if name in {"authorization", "content-type"}}
        answer = httpx2.post(self.moto, content=body, headers=kept)
        return answer.status_code, answer.content

    def _moved(self) -> None:
        text = self.call("rds", "DescribeDBClusters", DBClusterIdentifier=CLUSTER)
        members = re.findall(r"<DBInstanceIdentifier>([\w-]+)</.*?<IsClusterWriter>(\w+)</", text, re.DOTALL)
        before = self.writer
        self.writer = next(name for name, writes in members if writes.lower() == "true")
        assert self.writer != before
        self.nodes[self.writer].promote()
        self.nodes[before].demote()
        self._stale.update(dict.fromkeys(self.endpoints.values(), self.stale_sessions))

    def _session(self, asked: dict[str, object]) -> tuple[int, bytes]:
        parameters = asked["Parameters"]
        assert isinstance(parameters, dict)
        assert asked["DocumentName"] == "AWS-StartPortForwardingSessionToRemoteHost"
        if asked["Target"] not in {self.bastion, MANAGED}:
            error = {"__type": "TargetNotConnected", "message": f"{asked['Target']} is not connected."}
            return 400, json.dumps(error).encode()
        (endpoint,) = parameters["host"]
        name = self.writer if endpoint == self.endpoints["writer"] else self.reader
        assert endpoint in self.endpoints.values()
        if self._stale[endpoint] > 0:
            self._stale[endpoint] -= 1
            name = next(other for other in MEMBERS if other != name)
        token = str(self.nodes[name].address.port)
        return 200, json.dumps({"SessionId": "session", "TokenValue": token, "StreamUrl": "ws://none"}).encode()


@contextmanager
def running_cloud(folder: Path, unused_tcp_port: Callable[[], int]) -> Iterator[Cloud]:
    """Run a cluster of two, and what stands in for AWS around it, on loopback."""
    with ExitStack() as stack:
        port = unused_tcp_port()
        program = Path(sys.executable).with_name("moto_server")
        variables = clean_environment(no_proxy="*")
        command: list[str | Path] = [sys.executable, program, "-H", "127.0.0.1", "-p", str(port)]
        moto = ServiceProcess(command, variables, folder / "moto.log", folder)
        stack.callback(moto.stop)
        nodes = {name: stack.enter_context(_node(folder / name, unused_tcp_port())) for name in MEMBERS}
        nodes[MEMBERS[1]].demote()
        cloud = Cloud(nodes, f"http://127.0.0.1:{port}/")
        moto.wait_until_it_answers(f"{cloud.moto}moto-api/")
        _furnish(cloud)
        cloud.url = stack.enter_context(_gateway(cloud))
        yield cloud


def _furnish(cloud: Cloud) -> None:
    engine = {"Engine": "aurora-postgresql", "DBClusterIdentifier": CLUSTER}
    made = cloud.call("rds", "CreateDBCluster", **engine, MasterUsername="postgres", MasterUserPassword="notused1")
    for role, tag in (("writer", "Endpoint"), ("reader", "ReaderEndpoint")):
        found = re.search(f"<{tag}>([^<]+)</{tag}>", made)
        assert found is not None
        cloud.endpoints[role] = found[1]
    for name in MEMBERS:
        cloud.call("rds", "CreateDBInstance", **engine, DBInstanceIdentifier=name, DBInstanceClass="db.t3.medium")
    alone = {**engine, "DBClusterIdentifier": "alone"}
    cloud.call("rds", "CreateDBCluster", **alone, MasterUsername="postgres", MasterUserPassword="notused1")
    cloud.call("rds", "CreateDBInstance", **alone, DBInstanceIdentifier="one", DBInstanceClass="db.t3.medium")
    started = cloud.call("ec2", "RunInstances", ImageId="ami-12c6146b", MinCount="1", MaxCount="1")
    found = re.search(r"<instanceId>([^<]+)</instanceId>", started)
    assert found is not None
    cloud.bastion = found[1]


@contextmanager
def _node(folder: Path, port: int) -> Iterator[Node]:
    cluster = PostgresCluster(folder, lambda text: None, THROWAWAY, port=port)
    with cluster.in_use():
        address = cluster.address(DATABASE)
        with psycopg.connect(address.url, autocommit=True) as connection:
            # One for both, as where they share their storage.
            connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(PASSWORD)))
            connection.execute("CREATE TABLE written (key text PRIMARY KEY)")
        yield Node(cluster, replace(address, password=PASSWORD))


@contextmanager
def _gateway(cloud: Cloud) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = cloud.answer(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _error(code: str) -> str:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>it is refused</Message></Error></ErrorResponse>"
