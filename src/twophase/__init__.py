"""Do neural networks train in two phases? A replication of arXiv 2505.13900, from raw config."""
