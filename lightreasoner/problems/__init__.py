"""Problems from files, benchmarks and the bundled sets, and the grading of answers."""
