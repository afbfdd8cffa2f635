"""Training: the loop, its batches, its perturbation, and how networks are evaluated."""
