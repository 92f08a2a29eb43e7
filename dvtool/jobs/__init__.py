"""Batches of work, and what runs them: files into packs, packs into files."""
