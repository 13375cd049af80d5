"""The parity adapters: kind of a reference case -> function that runs it and compares every stored value."""

from parity import sampling

ADAPTERS = {
    "mm_sampling": sampling.mm_sampling,
    "openset_frame_indices": sampling.openset_frame_indices,
    "uniformerv2_sampling": sampling.uniformerv2_sampling,
    "videomae_frame_indices": sampling.videomae_frame_indices,
}
