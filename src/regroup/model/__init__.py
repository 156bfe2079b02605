"""GroupViT, its text tower and its checkpoints."""
