"""GraphQL: one schema merged from the parts of several applications, one container per operation."""
