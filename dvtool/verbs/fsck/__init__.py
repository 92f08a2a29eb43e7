"""fsck: checks stored data and repairs damage."""
