"""The program `internvideo`, also `python -m internvideo_hf.cli`.

Exit codes: 0 done, 1 done in part (the failures are listed last), 2 refused (bad arguments, bad file).
No module of this package imports torch before a command needs it, so that `--help` answers at once.
"""

from internvideo_hf.cli.app import main as main
