"""A revision's data, read without a checkout: `dvtool.snapshots.snapshot` is where to begin."""
