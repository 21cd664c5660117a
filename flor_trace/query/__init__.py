"""What a user asks about recorded runs: lists, details, logs, verification, deletion."""
