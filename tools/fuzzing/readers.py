"""All readers of text of the package."""

from __future__ import annotations

from fuzzing import corpora, results, settings, tables

READERS = {**tables.READERS, **settings.READERS, **results.READERS, **corpora.READERS}
