"""Grading: the answer in a response, found and compared with the reference answer."""
