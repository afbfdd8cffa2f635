"""The stages: a file for each, with a function of its name that does the work."""
