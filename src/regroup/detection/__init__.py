"""Detection by segments: proposals from a model's own segments, base and novel classes, AP and recall."""
