"""The bytes of format 1: digests, packs, manifests, shards; and what paths mean in them."""
