"""Convert a released InternVideo-MM file to a folder that `from_pretrained` loads.

python conversion/convert_internvideo_mm_to_hf.py InternVideo-MM-L-14.ckpt internvideo-mm-l-14

The same as `internvideo convert`; `--help` lists the options. It prints the recognized family, every tensor of the
file that is left out, and then

    Wrote 673 tensors (478,127,105 parameters, float32) to internvideo-mm-l-14; 0 tensors of the file were left out.

for the released L/14 (481 tensors and 178,066,433 parameters for the B/16), with more left out where the file holds a
caption decoder. For a file that is damaged, unsafe or of another kind it prints one line, exits with code 2 and writes
nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
