"""The sequencer's tables, their history, and the pool through which they are reached."""
