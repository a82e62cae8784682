"""The sequencer's failovers: scenarios, the report over all of them, and a demonstration in a terminal."""
