"""The domain's repositories, over PostgreSQL and in memory."""
