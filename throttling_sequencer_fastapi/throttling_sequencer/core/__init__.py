"""Settings of the sequencer."""
