"""Search of videos by text, by video and by image.

`VideoIndex` is in `search.index`. This package imports nothing: the processes that decode need `search.clips` alone.
"""
