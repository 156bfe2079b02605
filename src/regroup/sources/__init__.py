"""Where raw data comes from: the drawn mini world, a local folder, a download."""
