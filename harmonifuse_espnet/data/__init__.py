"""From a data folder to a batch: tables, audio, features, tokenizers, augmentation, task schedule, iterator."""
