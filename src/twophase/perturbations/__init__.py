"""What forks differ by: a file for each family of perturbations."""
