"""The built-in commands, a module each."""

from api_server.cli.commands import config, db, doctor, lab, user

__all__ = ["config", "db", "doctor", "lab", "user"]
