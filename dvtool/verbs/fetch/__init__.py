"""fetch: content from remotes into the local store."""
