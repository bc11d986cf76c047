"""Corpora as they are released -> Kaldi data folders: ``datadir.py``, and one file a corpus.

A corpus is a module with ``TASK`` (the task that its utterances belong to by default), ``add_arguments(parser)`` for
its own options, and ``prepare(corpus_dir, **options)``, which reads the release and returns each set's utterances.
``download.py`` brings archives from the web; ``layouts.py`` writes made speech as the releases lay out theirs.
"""
