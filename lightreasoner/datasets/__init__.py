"""Datasets of divergent steps: how they are stored, explored, selected from, exported and described."""
