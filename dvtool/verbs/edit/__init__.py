"""rm and mv: take entries or whole targets out, or give them another name."""
