"""resolve: what a merge left in manifests, and settling it."""
