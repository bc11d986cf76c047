"""Reference tables of the documentation, generated from parsers, classes and docstrings."""
