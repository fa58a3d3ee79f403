"""Parts of other packages that are not public, each behind a documented name."""
