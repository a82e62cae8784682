"""A failover for an audience: a counter of acknowledged plans, a kill -9, a promotion, and what is left afterwards."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from api_server.testing.failover import Expectation, Ledger, Run, Stage
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.failover.performance import perform
from bench.failover.product import STORAGE_ERRORS
from bench.failover.scenarios import SCENARIOS, SequencerScenario

_STEADY_S, _CUT_S, _AFTER_S = 4.0, 3.5, 4.0
_RIGHT = replace(SCENARIOS["cut-then-kill"], expected=Expectation(client_errors=STORAGE_ERRORS))
_WRONG = SCENARIOS["cut-then-kill-do-nothing"]


def perform_demo(record: Path | None, seed: int) -> int:
    """Show both acts, and return 0 where the first did nothing that it should not and the second lost some."""
    console = Console(highlight=False)
    with Screen(console).shown() as screen:
        screen.title("Plans are stored by ON CONFLICT … DO UPDATE: every acknowledgement has reached the standby.")
        right = _act(screen, _RIGHT, seed)
        screen.title("The same with ON CONFLICT … DO NOTHING: a second try writes nothing, so it waits for no standby.")
        wrong = _act(screen, _WRONG, seed)
    if record is not None:
        record.write_text("".join(f"{line}\n" for line in screen.lines))
    return 0 if not right.problems and wrong.verdict.lost else 1


def _act(screen: "Screen", scenario: SequencerScenario, seed: int) -> Run:
    screen.say("starting a primary, a synchronous standby, and the service over both …")

    def steps(stage: Stage) -> None:
        screen.watch(stage.traffic.ledger)
        try:
            _story(stage, screen.say)
        except KeyboardInterrupt:
            screen.say("ending everything that was started …")
            raise

    with tempfile.TemporaryDirectory() as folder:
        run = perform(replace(scenario, steps=steps), Path(folder), seed)
    screen.watch(None)
    screen.result(run)
    return run


def _story(stage: Stage, say: Callable[[str], None]) -> None:
    say(f"50 plans a second are stored, by REST and by GraphQL; {stage.writer} is the primary")
    stage.wait(_STEADY_S)
    old = stage.writer
    say(f"the standby is cut off: {old} goes on alone, and may not promise anything")
    stage.disturb("the standby is cut off")
    stage.lab.cut(f"replication-{old}")
    stage.wait(_CUT_S)
    say(f"kill -9 {old}")
    stage.disturb(f"kill -9 {old}")
    stage.lab.kill(old)
    promotion = stage.promote()
    say(f"{promotion.node} is promoted (timeline {promotion.timeline})")
    stage.recover()
    say("plans are stored again")
    stage.wait(_AFTER_S)
    stage.lab.heal(None)


class Screen:
    """Lines as things happen and, in a terminal, a counter below them."""

    def __init__(self, console: Console) -> None:
        self.lines: list[str] = []
        self._console = console
        self._began_at = time.monotonic()
        self._ledger: Ledger | None = None

    @contextmanager
    def shown(self) -> Iterator["Screen"]:
        """Keep the counter at the bottom for as long as the context lasts; a pipe gets lines only."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(get_renderable=self._counter, console=self._console, refresh_per_second=10, transient=True):
            yield self

    def watch(self, ledger: Ledger | None) -> None:
        """Count what this ledger acknowledges."""
        self._ledger = ledger

    def title(self, text: str) -> None:
        """Begin an act."""
        self._print("", "")
        self._print(text, "bold")
        self._began_at = time.monotonic()

    def say(self, text: str) -> None:
        """Tell what happens, and when."""
        counted = f"{self._ledger.acknowledgements:>5} acknowledged" if self._ledger else " " * 18
        self._print(f"{time.monotonic() - self._began_at:6.1f} s  {counted}  {text}", "")

    def result(self, run: Run) -> None:
        """Tell what came of an act."""
        judged = run.verdict
        self.say("the table is compared with what was acknowledged:")
        kept = f"{judged.acknowledged} plans acknowledged, {len(judged.lost)} lost"
        text = f"{kept}, {len(judged.doubled)} doubled; {judged.client_errors} errors"
        self._print(f"{'':28}{text}", "bold red" if judged.lost else "bold green")
        if not run.scenario.control:
            for problem in run.problems:
                self._print(f"{'':28}not as expected: {problem}", "bold red")

    def _print(self, text: str, style: str) -> None:
        self.lines.append(text)
        self._console.print(Text(text, style), soft_wrap=True)

    def _counter(self) -> Text:
        ledger = self._ledger
        if ledger is None:
            return Text("")
        waiting = sum(request.finished_at is None for request in ledger.requests[-1000:])
        return Text(f"{ledger.acknowledgements:>8} plans acknowledged, {waiting} waiting for an answer", "bold cyan")
