"""Helpers that know nothing of video or models: files, hashes, names, devices, resumable work, pictures."""
