"""What injected code calls while the user's script runs; nothing in here touches the disk."""
