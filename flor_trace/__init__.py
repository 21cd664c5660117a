"""Hindsight logging for model training: add a print today, get its output for a run of last week."""

__version__ = "0.1.0"
