"""gc: frees the local store, and remotes, of what nobody needs."""
