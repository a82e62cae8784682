"""Use cases: pure orchestration of the domain."""
