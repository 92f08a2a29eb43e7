"""Where packs and shards are: locally (`local`, indexed by `database`) and elsewhere (`remote`)."""
