"""Where DINO's features come from in a profile: the published weights, or a stand-in trained on the spot."""
