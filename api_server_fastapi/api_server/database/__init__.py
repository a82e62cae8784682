"""The foundation's own way to the database."""
