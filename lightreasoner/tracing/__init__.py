"""Tracing one problem live: events per step, records, replay."""
