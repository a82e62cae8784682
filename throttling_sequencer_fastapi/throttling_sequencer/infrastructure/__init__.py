"""Adapters to what is outside: processes, and the database."""
