"""The checks that commands run before and after they do something."""
