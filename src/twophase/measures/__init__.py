"""The measures, one file for each family."""
