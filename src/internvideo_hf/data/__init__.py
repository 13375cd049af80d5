"""From lists of videos to batches: manifests, samples, shards, collation; verifying and transcoding video files.

The library `datasets` comes with the extra `train`; only the functions that need it import it.
"""
