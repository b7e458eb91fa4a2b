"""Looks for wrong labels in a dataset of the user's own, and learns from it all the same."""
