"""The sequencer's database: Piccolo over asyncpg."""
