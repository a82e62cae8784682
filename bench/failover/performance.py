"""A scenario from nothing to its verdict."""

from pathlib import Path

from api_server.local.lab import Lab, LabOptions
from api_server.testing.failover import LOG_LINE_PREFIX, Run, play

from bench.failover.product import running_product
from bench.failover.scenarios import SequencerScenario


def perform(scenario: SequencerScenario, folder: Path, seed: int, *, rate_per_s: float = 50.0) -> Run:
    """Make a lab and a sequencer over it, have a scenario happen, and leave nothing running."""
    options = LabOptions(
        nodes=scenario.nodes,
        synchronous=scenario.synchronous,
        haproxy=scenario.route != "direct",
        pgbouncer=scenario.route == "pgbouncer",
        free_ports=True,
        postgres_options=(LOG_LINE_PREFIX,),
    )
    lab = Lab.create(folder / "lab", options)
    try:
        lab.up()
        with running_product(lab, scenario.route, folder, scenario.app) as product:
            return play(scenario, lab, product, seed=seed, rate_per_s=rate_per_s)
    finally:
        lab.down()
