"""Generating responses with a key-value cache, one at a time or in batches."""
