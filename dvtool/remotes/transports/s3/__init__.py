"""The transport for S3 and everything that speaks its plain subset."""
