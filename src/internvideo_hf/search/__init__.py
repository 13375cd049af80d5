"""Search of videos by text, by video and by image.

`VideoIndex` is in `retrieval.index`. Nothing is imported here: the processes that decode need `retrieval.clips` alone.
"""
