"""Turns a released InternVideo-MM file into a folder that `from_pretrained` loads.

python conversion/convert_internvideo_mm_to_hf.py InternVideo-MM-L-14.ckpt internvideo-mm-l-14

The same as `internvideo convert`, with its options (`--help` lists them). It prints what was recognised, every tensor
of the file that the model has no place for, and at the end

    Wrote 673 tensors (478,127,105 parameters, float32) to internvideo-mm-l-14; 0 tensors of the file were left out.

for the released L/14 (481 tensors and 178,066,433 parameters for the B/16), with more left out where the file holds a
caption decoder. A file that is damaged, unsafe or of another kind ends in one line and exit code 2, and nothing is
written.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
