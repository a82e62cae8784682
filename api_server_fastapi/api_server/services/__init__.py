"""The foundation's services and the registry that holds every service of a process."""
