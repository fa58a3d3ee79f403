"""Files and run folders on disk and in remote storage."""
