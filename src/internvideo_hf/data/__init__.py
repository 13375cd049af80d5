"""From lists of videos to batches: manifests, samples, shards, collation; finding bad files, making files smaller, and
drawing a data set.

The library `datasets` comes with the extra `train`, and is imported by the functions that need it only.
"""
