"""Problems from files, benchmarks and the bundled sets; files of conversations and of responses."""
