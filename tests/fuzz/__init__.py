"""Coverage-guided fuzzing of what reads hostile bytes, and the corpus that it left. Nothing in here is part of the product."""
