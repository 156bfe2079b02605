"""The drawn world: the embedded default data, written in the real archives' formats."""
