"""Building data sets of clips with captions, in stages: plan, download, shots, clips, captions, scores, card."""
