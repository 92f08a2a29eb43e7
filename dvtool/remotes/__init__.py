"""The objects of a remote, over any transport, and the proof that it holds them."""
