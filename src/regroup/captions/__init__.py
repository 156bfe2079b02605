"""From captions to training samples: tagging, labels, vocabularies, shards, sampling, tokens."""
