"""Convert a released ViCLIP file to a folder that `from_pretrained` loads.

python conversion/convert_viclip_to_hf.py ViCLIP-L_InternVid-FLT-10M.pth viclip-l-14

The same as `internvideo convert`; `--help` lists the options. The saved processor makes the pixels of the training
code's evaluation, to which the published scores belong; `--processor demo` saves the processor of the inference demo,
which takes lists of BGR frames. It prints the recognized family, and then

    Wrote 591 tensors (427,590,145 parameters, float32) to viclip-l-14; 0 tensors of the file were left out.

for the released L/14 (399 tensors and 149,603,841 parameters for the B/16). For a file that is damaged, unsafe or of
another kind it prints one line, exits with code 2 and writes nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
