"""Search of videos by text, by video and by image."""

from internvideo_hf.retrieval.encoder import Encoder
from internvideo_hf.retrieval.hits import Hit, Hits, montage
from internvideo_hf.retrieval.index import Change, VideoIndex

__all__ = ["Change", "Encoder", "Hit", "Hits", "VideoIndex", "montage"]
