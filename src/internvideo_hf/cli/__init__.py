"""The program `internvideo`, also `python -m internvideo_hf.cli`.

Exit codes: 0 success, 1 partial success (failures are listed last), 2 refused (bad arguments, bad file),
130 stopped by Ctrl-C.
No module here imports torch before a command needs it, so that `--help` answers at once.
"""

from internvideo_hf.cli.app import main as main
