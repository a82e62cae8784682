"""What the program is about, in plain Python: units, physics, scores and path finders."""
