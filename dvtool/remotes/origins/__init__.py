"""Reading from where data came from: buckets and web servers. Nothing here writes there."""
