"""The command line: one file per verb, options and printing only."""
