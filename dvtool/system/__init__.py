"""Durable files, bounded threads, worker processes, progress and lazy imports."""
