"""Parts that a service needs beside it in development and tests, from plain processes. Servers never import this."""
