"""The foundation's REST endpoints and the door through which endpoints get services."""
