"""What the foundation keeps, in three layers: shared fields, tables, and what clients see."""
