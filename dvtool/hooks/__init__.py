"""The programs that git runs: hooks and drivers, putting them in place, and their work."""
