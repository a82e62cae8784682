"""What every face calls: shapes in, domain values out."""
