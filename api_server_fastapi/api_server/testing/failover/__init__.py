"""A checker of failovers: writers with a ledger, scenarios that happen to a cluster, and a verdict over what is kept.

It knows no service. `Subject` is what a service offers to be put to the test; `play` has a `Scenario` happen to a `Lab`
while the subject's clients ask it, and returns a `Run` with what is lost, doubled or there though it was refused.
"""

from api_server.testing.failover.bystanders import Bystander, Observation
from api_server.testing.failover.ledger import Ledger, NoAnswerError, Reply, Request
from api_server.testing.failover.running import Run, Subject, play
from api_server.testing.failover.scenario import Event, Expectation, Scenario, Stage
from api_server.testing.failover.server_errors import LOG_LINE_PREFIX, ServerError
from api_server.testing.failover.traffic import Clients, NotAcknowledgedError, OpenClients, Traffic
from api_server.testing.failover.verdict import Row, Verdict, verdict
from api_server.testing.failover.writers import Send, Writers

__all__ = [
    "LOG_LINE_PREFIX",
    "Bystander",
    "Clients",
    "Event",
    "Expectation",
    "Ledger",
    "NoAnswerError",
    "NotAcknowledgedError",
    "Observation",
    "OpenClients",
    "Reply",
    "Request",
    "Row",
    "Run",
    "Scenario",
    "Send",
    "ServerError",
    "Stage",
    "Subject",
    "Traffic",
    "Verdict",
    "Writers",
    "play",
    "verdict",
]
