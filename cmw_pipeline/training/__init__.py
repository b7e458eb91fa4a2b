"""One training loop for all methods, with exact resume."""
