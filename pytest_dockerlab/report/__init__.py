"""What a grade becomes: `results.json` for machines, and from it everything that a person or another system reads."""
