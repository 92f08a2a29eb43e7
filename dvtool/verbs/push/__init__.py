"""push: content of commits to a remote, and the proof that it is there."""
