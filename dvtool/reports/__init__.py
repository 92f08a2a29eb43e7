"""Reports of what changed in the data between two commits, as a person would look at it."""
