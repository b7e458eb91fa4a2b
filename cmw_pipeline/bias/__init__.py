"""Bias generators: pure NumPy, each draw a function of (labels, parameters, random stream)."""
