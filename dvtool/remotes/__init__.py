"""What a remote holds, over any transport, and the proof that it does."""
