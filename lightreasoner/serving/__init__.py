"""The running server: permissions, rate limits, live traces, the archive of finished runs."""
