"""Convert a predictor of waypoints to a folder that `from_pretrained` loads.

python conversion/convert_vln_waypoints_to_hf.py check_cwp_bestdist_hfov90 vln-waypoints

The same as `internvideo convert`; `--help` lists the options. Sizes come from the shapes. Layers that the original
never uses are left out.

It prints the recognized family, and then, for the public sizes,

    Wrote 38 tensors (16,432,248 parameters, float32) to vln-waypoints; 4 tensors of the file were left out.

The layout of the released file could not be checked: its address no longer answers. For a file that is damaged, unsafe
or of another kind it prints one line, exits with code 2 and writes nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
