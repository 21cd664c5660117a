"""`doctor`: tells before a long training what of a script will not be captured exactly, and what to do about it."""
