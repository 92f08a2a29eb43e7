"""Kinds of places that hold objects under keys; `registry` knows them all.

`registry.open_backend` is the only door: it reads the URL, chooses the transport and wraps its
backend in `Retry` where the network can fail. boto3 is loaded only when an S3 remote is opened.
"""
