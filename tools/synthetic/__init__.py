"""Small synthetic corpora and randomly initialised models, in the formats of licensed corpora and large models."""
