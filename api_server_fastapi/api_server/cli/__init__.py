"""The administration of an application by commands: its database, its settings, its own commands."""
