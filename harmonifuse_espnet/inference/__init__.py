"""A trained model at work: transcripts, label probabilities, CTC, forced alignment, feature extraction."""
