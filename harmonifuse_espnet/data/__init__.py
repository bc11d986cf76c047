"""Data folders, audio, features, tokenizers, tasks, augmentation, task schedule, batches."""
