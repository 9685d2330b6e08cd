"""Random histories of a whole installation, and what holds after each step. Nothing in here is part of the product."""
