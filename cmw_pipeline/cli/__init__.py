"""One thin click command a stage."""
