"""check-overlap: files, or rows of tables, that are in more than one split."""
