"""The optimizers: a file for each, with `STATE`, the names of what it keeps, and `update`."""
