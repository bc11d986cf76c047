"""Stand-ins for licensed or large corpora and models: right in shape, worthless in content, made in seconds."""
