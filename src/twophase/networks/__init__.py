"""The networks of this package: a file for each family, with its builders."""
