"""The history of the sequencer's tables, one module a migration."""
