"""The running server: permissions, limits, live traces, archive of finished runs."""
