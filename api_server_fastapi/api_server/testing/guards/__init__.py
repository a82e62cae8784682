"""Guards: each watches over one thing that a test must not do or leave behind, and names who did it."""
