"""The verbs of the command line, one file each: `add(verbs)` declares a verb, its `run` default carries it out."""
