"""Classifiers, by name."""
