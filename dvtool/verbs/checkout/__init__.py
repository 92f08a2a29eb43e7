"""checkout: workspace files from manifests, losing nothing that is not in the store."""
