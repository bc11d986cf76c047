"""Corpus readers, one module per corpus; ``prepare.py`` writes their utterances as Kaldi data folders.

A reader has ``TASK`` (the default task of its utterances), ``add_arguments(parser)`` for its options, and
``prepare(corpus_dir, **options)``, which returns the utterances of each set. ``download.py`` downloads archives;
``synthetic.py`` writes synthetic speech in the layouts of LibriSpeech and IEMOCAP.
"""
