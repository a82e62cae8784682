"""Programs that measure. Each writes a JSON file with its figures, and with the versions that they were taken with."""
