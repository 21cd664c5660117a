"""Bytes on disk: run folders, the journal, blob packs, and the writer and the reader of a run."""
