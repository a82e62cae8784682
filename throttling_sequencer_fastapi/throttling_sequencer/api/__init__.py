"""The faces: REST and GraphQL, siblings that call the application layer and nothing below it."""
