"""A checkpoint on many evaluations in one process: what is run, what it scored, and how that is shown."""
