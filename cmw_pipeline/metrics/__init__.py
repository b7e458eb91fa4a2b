"""Numbers about predictions and their aggregation; NumPy only."""
