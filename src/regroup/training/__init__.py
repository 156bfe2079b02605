"""Fine-tuning: data loading, augmentation, optimiser and schedule, the loop, resume."""
