"""A read-only S3 server over the data of commits: `dvtool.serve.serving.serve` begins."""
