"""The revisions of the foundation's tables, one module each."""
