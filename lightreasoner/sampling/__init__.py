"""Sampling a dataset of divergent steps from many problems."""
