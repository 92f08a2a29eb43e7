"""Batches of work, and the engines that run them: files into packs, packs into files."""
