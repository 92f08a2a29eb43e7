"""The packs and shards on this disk (`local`), and their index (`database`)."""
