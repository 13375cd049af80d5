"""Turns a released UniFormerV2 classifier into a folder that `from_pretrained` loads.

python conversion/convert_uniformerv2_to_hf.py k710_uniformerv2_b16_8x224.pyth uniformerv2-b-k400 --head k400

The same as `internvideo convert`, with its options (`--help` lists them). It prints what was recognised, and then

    Wrote 283 tensors (114,552,208 parameters, float32) to uniformerv2-b-k400; 0 tensors of the file were left out.

for the released B/16. A file that is damaged, unsafe or of another kind ends in one line and exit code 2, and nothing
is written.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
