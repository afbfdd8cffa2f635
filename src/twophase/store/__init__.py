"""Results as files: where they lie, what makes them, reading and writing. Knows no stage."""
