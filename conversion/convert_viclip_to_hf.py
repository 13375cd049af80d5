"""Turns a released ViCLIP file into a folder that `from_pretrained` loads.

python conversion/convert_viclip_to_hf.py ViCLIP-L_InternVid-FLT-10M.pth viclip-l-14

The same as `internvideo convert`, with its options (`--help` lists them). The saved processor makes the pixels of the
training code's evaluation, which the published scores are of; `--processor demo` saves those of the inference demo,
which takes lists of BGR frames. At the end it prints

    Wrote 591 tensors (427,590,145 parameters, float32) to viclip-l-14; 0 tensors of the file were left out.

for the released L/14 (399 tensors and 149,603,841 parameters for the B/16). A file that is damaged, unsafe or of
another kind ends in one line and exit code 2, and nothing is written.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
