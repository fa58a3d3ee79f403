"""Jobs: long-running command lines that nobody has to watch, and that nothing but the machine's end can lose."""
