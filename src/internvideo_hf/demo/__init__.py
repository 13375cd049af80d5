"""The demo, which needs no network: bundled toy models, synthetic clips, a tour and a web page."""
