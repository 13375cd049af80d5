"""Convert a released UniFormer file of videos to a folder that `from_pretrained` loads.

python conversion/convert_uniformer_to_hf.py ego4d_fhp_uniformer8x320.pth uniformer-b-ego4d-hands

The same as `internvideo convert`; `--help` lists the options. Sizes come from the shapes. A file of 20 outputs becomes
a predictor of hands, any other a classifier; Kinetics files of the original UniFormer have the same layout.

It prints the recognized family, and then

    Wrote 795 tensors (49,624,687 parameters, float32) to uniformer-b-ego4d-hands; 0 tensors of the file were left out.

The layout of the released files could not be checked: the names are those of the public code. For a file that is
damaged, unsafe or of another kind it prints one line, exits with code 2 and writes nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
