"""What happens to the sequencer's database, and what should come of it. F numbers are those of the failure modes."""

import os
import signal
import threading
import time
from dataclasses import dataclass

import psycopg
from api_server.local.lab import Promotion
from api_server.testing.failover import Expectation, Scenario, Stage

from bench.failover.product import DO_NOTHING, SEQUENCER, STORAGE_ERRORS

# For a machine that does much else; the report has what is asked for.
_DIRECT_MS, _PROXY_MS = 2_000, 3_000
_SAFE = Expectation(first_ack_ms=_DIRECT_MS)
_BEHIND_A_PROXY = Expectation(first_ack_ms=_PROXY_MS)
_LOSES = Expectation(loses=True, client_errors=STORAGE_ERRORS)
# By how much writers may wait longer than what keeps them waiting lasts.
_AFTERWARDS_S = 1.5


def _over_after(outage_s: float, client_errors: frozenset[str] = frozenset()) -> Expectation:
    """Expect acknowledgements again soon after an outage of at most so many seconds."""
    return Expectation(client_errors=client_errors, longest_window_ms=(outage_s + _AFTERWARDS_S) * 1000)


def _kill_and_promote(stage: Stage) -> None:
    stage.wait(0.3, 1.0)
    old = stage.writer
    stage.disturb(f"kill -9 {old}")
    stage.lab.kill(old)
    stage.wait(0.2, 0.8)
    stage.promote()
    stage.recover()
    _rejoin(stage, old)


def _rejoin(stage: Stage, node: str) -> None:
    stage.note(f"{node} rejoins")
    stage.lab.rejoin(node)
    stage.recover()


def _kill_three_times(stage: Stage) -> None:
    for _ in range(3):
        _kill_and_promote(stage)


def _kill_four_times(stage: Stage) -> None:
    for _ in range(4):
        _kill_and_promote(stage)


def _kill_five_times(stage: Stage) -> None:
    for _ in range(5):
        _kill_and_promote(stage)


def _cut_then_kill(stage: Stage, cut_s: float) -> None:
    stage.wait(0.3, 1.0)
    old = stage.writer
    stage.disturb(f"cut off {old}'s standby")
    stage.lab.cut(f"replication-{old}")
    is_cut_at = time.monotonic()
    stage.wait(cut_s)
    stage.disturb(f"kill -9 {old}")
    stage.lab.kill(old)
    promotion = stage.promote()
    stage.recover()
    if not stage.scenario.control:
        _complain_of_promises(stage, is_cut_at, promotion.accepts_writes_at)
    stage.lab.heal(None)


def _complain_of_promises(stage: Stage, begin: float, end: float) -> None:
    """Nothing that was asked when no standby could hear of it may have been promised before one was the primary."""
    early = [
        request.key
        for request in stage.traffic.ledger.requests
        if request.outcome == "acknowledged" and request.sent_at > begin and (request.finished_at or end) < end
    ]
    if early:
        stage.complain(f"{len(early)} writes were acknowledged while no standby could be reached")


def _f2(stage: Stage) -> None:
    _cut_then_kill(stage, 0.5)


def _f3(stage: Stage) -> None:
    _cut_then_kill(stage, 3.5)


def _freeze_and_promote(stage: Stage) -> None:
    stage.wait(0.3, 1.0)
    old = stage.writer
    stage.disturb(f"freeze {old}")
    stage.lab.freeze(old)
    stage.wait(0.5, 1.5)
    stage.promote()
    stage.recover()
    _rejoin(stage, old)


def _freeze_and_thaw(stage: Stage) -> None:
    stage.wait(0.3, 1.0)
    node = stage.writer
    stage.disturb(f"freeze {node}")
    stage.lab.freeze(node)
    stage.wait(3.0, 4.0)
    stage.note(f"thaw {node}")
    stage.lab.thaw(node)


def _freeze_the_standby(stage: Stage) -> None:
    stage.wait(0.3, 1.0)
    standby = stage.other(stage.writer)
    stage.disturb(f"freeze the standby {standby}")
    stage.lab.freeze(standby)
    stage.wait(2.0, 3.0)
    stage.note(f"thaw {standby}")
    stage.lab.thaw(standby)


def _two_primaries(stage: Stage) -> None:
    """Nobody fences the old primary: it comes back and still thinks that it is one."""
    old = stage.writer
    stage.disturb(f"freeze {old}")
    stage.lab.freeze(old)
    stage.wait(0.5, 1.0)
    promotion = stage.promote(fence=False)
    stage.recover()
    stage.note(f"thaw {old}: two primaries")
    stage.lab.thaw(old)
    stage.wait(0.5, 1.0)
    # Whoever now looks for a node that takes writes finds the old primary only, which says that it is one.
    stage.disturb(f"{promotion.node} cannot be reached, {old} can")
    stage.lab.set_link(f"clients-{promotion.node}", "reset")
    stage.wait(1.0)
    stage.note(f"{promotion.node} can be reached again")
    stage.lab.heal(f"clients-{promotion.node}")
    stage.recover()
    _complain_of_strays(stage, old, promotion)
    stage.lab.kill(old)
    _rejoin(stage, old)


def _demote_under_the_pool(stage: Stage) -> None:
    """Have the primary take no more writes, and end none of its sessions."""
    stage.wait(0.3, 1.0)
    old = stage.writer
    stage.disturb(f"{old} takes no more writes")
    with psycopg.connect(stage.lab.address(old).url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
    stage.wait(0.3, 0.8)
    promotion = stage.promote(fence=False)
    stage.recover()
    stage.wait(2.0)
    stage.recover()
    _complain_of_strays(stage, old, promotion)
    stage.lab.kill(old)
    _rejoin(stage, old)


def _complain_of_strays(stage: Stage, old: str, promotion: Promotion) -> None:
    requests = stage.traffic.ledger.requests
    late = {request.key for request in requests} - {
        request.key for request in requests if request.sent_at < promotion.accepts_writes_at
    }
    if strayed := [row.key for row in stage.rows(old) if row.key in late]:
        stage.complain(f"{len(strayed)} writes went to the old primary after the promotion")


def _black_hole_and_promote(stage: Stage) -> None:
    """Let the primary work, and nothing that is sent to it arrive."""
    stage.wait(0.3, 1.0)
    old = stage.writer
    stage.disturb(f"nothing reaches {old}")
    stage.lab.cut(f"clients-{old}")
    stage.wait(0.5, 1.5)
    stage.promote()
    stage.recover()
    stage.lab.heal(None)
    _rejoin(stage, old)


def _reset(stage: Stage) -> None:
    node = stage.writer
    for _ in range(3):
        stage.wait(0.3, 1.0)
        stage.disturb("every connection is reset")
        stage.lab.set_link(f"clients-{node}", "reset")
        stage.wait(0.2, 1.5)
        stage.lab.heal(f"clients-{node}")
        stage.recover()


def _stop_and_start(stage: Stage) -> None:
    node = stage.writer
    for mode in ("fast", "immediate"):
        stage.wait(0.3, 1.0)
        stage.disturb(f"stop {node}, {mode}")
        stage.lab.stop(node, mode)
        stage.wait(0.5, 1.5)
        stage.note(f"start {node}")
        stage.lab.start(node)
        stage.recover()


def _stop_smartly(stage: Stage) -> None:
    """Who is there may stay, who comes is refused, for a second; then everybody has to go."""
    node = stage.writer
    pid = next(status.pid for status in stage.lab.status().nodes if status.name == node)
    assert pid is not None
    stage.disturb(f"stop {node}, smart")
    os.kill(pid, signal.SIGTERM)
    stage.wait(1.0)
    stage.lab.stop(node, "fast")
    stage.wait(0.5)
    stage.note(f"start {node}")
    stage.lab.start(node)


def _terminate_backends(stage: Stage) -> None:
    address = stage.lab.address(stage.writer)
    for _ in range(5):
        stage.wait(0.3, 0.6)
        stage.disturb("every session is terminated")
        with psycopg.connect(address.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        stage.recover()


def _switch_over(stage: Stage) -> None:
    """Have the old primary back as a standby that answers, while the pool still holds connections to it."""
    for _ in range(2):
        stage.wait(0.3, 1.0)
        stage.disturb("switch over")
        promotion = stage.lab.flip()
        stage.promoted(promotion)
        stage.recover()


def _swallow_answers(stage: Stage) -> None:
    node = stage.writer
    for _ in range(5):
        stage.wait(0.3, 0.6)
        stage.disturb("the answer to a COMMIT is lost")
        stage.lab.set_link(f"clients-{node}", "swallow-commit-reply")
        stage.recover()
        if (mode := stage.lab.status().links[f"clients-{node}"]) != "pass":
            stage.complain(f"no answer to a COMMIT was lost: the link is still set to {mode}")
    stage.lab.heal(f"clients-{node}")


def _long_outage(stage: Stage) -> None:
    node = stage.writer
    stage.disturb(f"stop {node}")
    stage.lab.stop(node, "fast")
    stage.wait(12.0)
    stage.note(f"start {node}")
    stage.lab.start(node)


def _long_freeze(stage: Stage) -> None:
    """Have the database hang for longer than anybody may wait."""
    node = stage.writer
    stage.disturb(f"freeze {node}")
    stage.lab.freeze(node)
    stage.wait(12.0)
    stage.note(f"thaw {node}")
    stage.lab.thaw(node)


def _drain_and_maint(stage: Stage) -> None:
    node = stage.writer
    for what, act in (("drain", stage.lab.drain), ("maint", stage.lab.maint)):
        stage.wait(0.3, 1.0)
        stage.disturb(f"{what} {node}")
        act(node)
        stage.wait(2.0, 3.0)
        stage.note(f"ready {node}")
        stage.lab.ready(node)
        stage.recover()


def _both_down(stage: Stage) -> None:
    stage.disturb("maint for every node")
    for node in stage.lab.node_names:
        stage.lab.maint(node)
    stage.wait(10.0)
    stage.note("ready again")
    for node in stage.lab.node_names:
        stage.lab.ready(node)


def _kill_haproxy(stage: Stage) -> None:
    stage.wait(0.3, 1.0)
    stage.disturb("kill -9 HAProxy")
    stage.lab.kill_haproxy()
    stage.wait(1.0, 2.0)
    stage.note("start HAProxy")
    stage.lab.start_haproxy()


def _pause(stage: Stage) -> None:
    stage.wait(0.3, 1.0)
    stage.disturb("PAUSE")
    # It returns when every transaction has ended.
    pausing = threading.Thread(target=stage.lab.pgbouncer, args=("PAUSE",))
    pausing.start()
    stage.wait(5.0 - 0.5)
    stage.note("RESUME")
    stage.lab.pgbouncer("RESUME")
    pausing.join()
    stage.recover()


def _disturb_pgbouncer(stage: Stage) -> None:
    stage.disturb("RECONNECT")
    stage.lab.pgbouncer("RECONNECT")
    stage.recover()
    stage.disturb("KILL")
    stage.lab.pgbouncer("KILL throttling_sequencer")
    stage.wait(0.5, 1.0)
    stage.note("RESUME")
    stage.lab.pgbouncer("RESUME throttling_sequencer")
    stage.recover()
    stage.disturb("kill -9 PgBouncer")
    stage.lab.kill_pgbouncer()
    stage.wait(0.5, 1.0)
    stage.note("start PgBouncer")
    stage.lab.start_pgbouncer()


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencerScenario(Scenario):
    """A scenario of the sequencer, or of a control that stands for it."""

    app: str = SEQUENCER


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        SequencerScenario(
            name="kill",
            failure_mode="F1",
            says="the primary is killed, its standby promoted, the old primary rejoins",
            steps=_kill_and_promote,
            failovers=1,
            expected=_SAFE,
        ),
        SequencerScenario(
            name="cut-then-kill",
            failure_mode="F3",
            says="the standby is cut off for longer than a statement may take, then the primary is killed",
            steps=_f3,
            failovers=1,
            expected=_SAFE,
        ),
        SequencerScenario(
            name="cut-then-kill-do-nothing",
            failure_mode="F3",
            says="the same, with `ON CONFLICT … DO NOTHING`",
            steps=_f3,
            failovers=1,
            control=True,
            expected=_LOSES,
            app=DO_NOTHING,
        ),
        SequencerScenario(
            name="freeze",
            failure_mode="F4",
            says="the primary stops where it stands, and its standby is promoted",
            steps=_freeze_and_promote,
            failovers=1,
            expected=_SAFE,
        ),
        SequencerScenario(
            name="kill-in-turns",
            failure_mode="F1",
            says="four times in a row",
            steps=_kill_four_times,
            failovers=4,
            expected=_SAFE,
        ),
        SequencerScenario(
            name="asynchronous",
            failure_mode="F2",
            says="replication is asynchronous and half a second behind when the primary is killed",
            steps=_f2,
            failovers=1,
            synchronous=False,
            control=True,
            expected=_LOSES,
        ),
        SequencerScenario(
            name="kill-haproxy-route",
            failure_mode="F1",
            says="three times in a row, behind HAProxy",
            steps=_kill_three_times,
            failovers=3,
            route="haproxy",
            expected=_BEHIND_A_PROXY,
        ),
        SequencerScenario(
            name="freeze-and-thaw",
            failure_mode="F4",
            says="the primary stops for three seconds and goes on",
            steps=_freeze_and_thaw,
            failovers=0,
            expected=_over_after(4.0),
        ),
        SequencerScenario(
            name="freeze-the-standby",
            failure_mode="F4",
            says="the standby stops for two seconds and goes on",
            steps=_freeze_the_standby,
            failovers=0,
            expected=_over_after(3.0),
        ),
        SequencerScenario(
            name="two-primaries",
            failure_mode="F4",
            says="a frozen primary is not fenced, and comes back beside the new one",
            steps=_two_primaries,
            failovers=1,
            expected=_SAFE,
        ),
        SequencerScenario(
            name="demoted-under-the-pool",
            failure_mode="F7",
            says="the primary takes no more writes and keeps its sessions; its standby is promoted",
            steps=_demote_under_the_pool,
            failovers=1,
            expected=Expectation(first_ack_ms=_DIRECT_MS, finds_read_only=True),
        ),
        SequencerScenario(
            name="black-hole",
            failure_mode="F4",
            says="nothing reaches the primary, and nobody says so; its standby is promoted",
            steps=_black_hole_and_promote,
            failovers=1,
            expected=_SAFE,
        ),
        SequencerScenario(
            name="stop-and-start",
            failure_mode="F6",
            says="the primary is stopped (fast, immediate) and started again",
            steps=_stop_and_start,
            failovers=0,
            expected=_over_after(2.5),
        ),
        SequencerScenario(
            name="stop-smartly",
            failure_mode="F6",
            says="the primary lets nobody in for a second, stops, and is started again",
            steps=_stop_smartly,
            failovers=0,
            expected=_over_after(2.5),
        ),
        SequencerScenario(
            name="switch-over",
            failure_mode="F7",
            says="primary and standby change their roles, and change them back",
            steps=_switch_over,
            failovers=2,
            expected=_SAFE,
        ),
        SequencerScenario(
            name="swallowed-answers",
            failure_mode="F8",
            says="five times the answer to a COMMIT is lost",
            steps=_swallow_answers,
            failovers=0,
            expected=_over_after(0.0),
        ),
        SequencerScenario(
            name="terminated-sessions",
            failure_mode="F8",
            says="five times every session is terminated",
            steps=_terminate_backends,
            failovers=0,
            expected=_over_after(0.0),
        ),
        SequencerScenario(
            name="resets",
            failure_mode="F8",
            says="three times every connection is reset, and new ones are refused for a while",
            steps=_reset,
            failovers=0,
            expected=_over_after(1.5),
        ),
        SequencerScenario(
            name="drain-and-maint",
            failure_mode="F9",
            says="HAProxy drains the primary, then cuts it off, and takes it back",
            steps=_drain_and_maint,
            failovers=0,
            route="haproxy",
            expected=_over_after(3.0),
        ),
        SequencerScenario(
            name="both-down",
            failure_mode="F9",
            says="HAProxy has no server for ten seconds",
            steps=_both_down,
            failovers=0,
            route="haproxy",
            expected=_over_after(10.0, STORAGE_ERRORS),
        ),
        SequencerScenario(
            name="kill-haproxy",
            failure_mode="F9",
            says="HAProxy is killed and started again",
            steps=_kill_haproxy,
            failovers=0,
            route="haproxy",
            expected=_over_after(2.5),
        ),
        SequencerScenario(
            name="pause",
            failure_mode="F10",
            says="PgBouncer pauses for five seconds",
            steps=_pause,
            failovers=0,
            route="pgbouncer",
            expected=_over_after(5.0),
        ),
        SequencerScenario(
            name="pgbouncer",
            failure_mode="F10",
            says="PgBouncer reconnects, cuts everybody off, is killed and started again",
            steps=_disturb_pgbouncer,
            failovers=0,
            route="pgbouncer",
            expected=_over_after(1.5),
        ),
        SequencerScenario(
            name="flapping",
            failure_mode="F13",
            says="five promotions in a minute among three nodes",
            steps=_kill_five_times,
            failovers=5,
            nodes=3,
            expected=_SAFE,
        ),
        SequencerScenario(
            name="long-outage",
            failure_mode="F14",
            says="the database is away for longer than the deadline",
            steps=_long_outage,
            failovers=0,
            expected=_over_after(13.0, STORAGE_ERRORS),
        ),
        SequencerScenario(
            name="long-freeze",
            failure_mode="F4",
            says="the database hangs for longer than the deadline",
            steps=_long_freeze,
            failovers=0,
            expected=_over_after(12.0, STORAGE_ERRORS),
        ),
    )
}
