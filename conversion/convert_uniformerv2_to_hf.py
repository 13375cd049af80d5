"""Convert a released UniFormerV2 classifier to a folder that `from_pretrained` loads.

python conversion/convert_uniformerv2_to_hf.py k710_uniformerv2_b16_8x224.pyth uniformerv2-b-k400 --head k400

The same as `internvideo convert`; `--help` lists the options. It prints the recognized family, and then

    Wrote 283 tensors (114,552,208 parameters, float32) to uniformerv2-b-k400; 0 tensors of the file were left out.

for the released B/16. For a file that is damaged, unsafe or of another kind it prints one line, exits with code 2 and
writes nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
