"""HarmoniFuse (arXiv 2509.18570): one speech language model for speech recognition, emotion recognition and more.

Read in the order of the data: ``corpora``, ``audio``, ``features``, ``tokenizer``, ``word_times``, ``recombination``,
``augmentation``, ``preprocessor``, ``turns``, ``iterator``; ``frontend`` (from scratch), ``pretrained_encoder`` and
``whisper``, ``layer_weights``, ``gate``, ``connector``, ``splice``, ``decoder``, ``fusion``, ``outputs``, and
``model``, which joins them; ``ctc_spelling``, ``ctc_prefix``, ``generation``, ``speech2text``, ``gate_trace``,
``metrics``, ``results``, ``illustration``, ``pictures``. ``configs`` and ``task`` hand all of it to ESPnet's trainer;
``memory`` and ``budget`` foretell what that will take. ``ablation`` describes variants of a training, ``ablation_runs``
carries them out, ``significance``, ``comparison`` and ``cost`` tell how they differ.

Shape letters, the same in every docstring:
    B batch, N samples, T encoder frames, D encoder width, L encoder layers, C width after the gate,
    S spliced positions (prompt, speech and answer), P prompt tokens, U answer tokens,
    V language model width, M language model layers, K labels, W vocabulary size.
Masks are True where a position is valid.
"""

__version__ = "0.1.0"
