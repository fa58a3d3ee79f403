"""Measuring accuracy before and after fine-tuning, what it cost, and the paper's results."""
