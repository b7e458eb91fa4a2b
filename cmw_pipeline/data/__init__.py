"""Readers that turn a source into images and labels, and the loader that feeds them to training."""
