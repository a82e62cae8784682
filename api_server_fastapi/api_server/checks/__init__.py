"""The foundation's readiness checks."""
