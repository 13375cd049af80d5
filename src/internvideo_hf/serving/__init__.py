"""The HTTP service of one model (extra `serve`)."""
