"""Experiments: sample, fine-tune and evaluate in one go, with a control beside the method."""
