"""Plans how game-like units throttle to a target and stop there."""
