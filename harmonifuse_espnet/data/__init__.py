"""From a data folder to a batch: tables, audio, features, tokenizers, tasks, augmentation, task schedule, iterator."""
