"""How much is asked at random; `FUZZ_EXAMPLES` and `FUZZ_SEED` say otherwise."""

import os

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "10"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))

# Nothing is remembered from run to run, and a failure is shown as it was found: a service has no way back.
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
