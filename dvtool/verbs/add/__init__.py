"""add: files and folders into the store, and their manifests into the worktree and git."""
