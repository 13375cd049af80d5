"""Turns a released VideoMAE file, pretrained or fine-tuned, into a folder that `from_pretrained` loads.

python conversion/convert_internvideo_mae_to_hf.py vit_b_hybrid_pt_800e_k400_ft.pth videomae-b-k400

The same as `internvideo convert`, with its options (`--help` lists them). It prints what was recognised, and then

    Wrote 186 tensors (86,534,800 parameters, float32) to videomae-b-k400; 0 tensors of the file were left out.

for the released B with the classes of Kinetics-400. A file that is damaged, unsafe or of another kind ends in one line
and exit code 2, and nothing is written.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
