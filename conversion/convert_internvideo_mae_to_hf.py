"""Convert a released VideoMAE file, pretrained or fine-tuned, to a folder that `from_pretrained` loads.

python conversion/convert_internvideo_mae_to_hf.py vit_b_hybrid_pt_800e_k400_ft.pth videomae-b-k400

The same as `internvideo convert`; `--help` lists the options. It prints the recognized family, and then

    Wrote 186 tensors (86,534,800 parameters, float32) to videomae-b-k400; 0 tensors of the file were left out.

for the released B with the classes of Kinetics-400. For a file that is damaged, unsafe or of another kind it prints
one line, exits with code 2 and writes nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
