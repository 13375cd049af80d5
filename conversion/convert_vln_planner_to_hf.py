"""Convert a policy of vision-language navigation to a folder that `from_pretrained` loads.

python conversion/convert_vln_planner_to_hf.py base_ckpt.iter6900.pth vln-planner-b

The same as `internvideo convert`; `--help` lists the options. Sizes come from the shapes. The file's settings, an
object of Habitat's, are read as plain data: Habitat need not be installed, and nothing of the file runs. The encoders
of videos, stills and depth that the file also holds are left out: they are public themselves. The planner repeats the
order in which the released weights join stills with the videos of other views, `mirrored_video_views`.

It prints the recognized family, and then, for the public sizes on ViT-L without a critic,

    Wrote 399 tensors (172,270,081 parameters, float32) to vln-planner-l; 0 tensors of the file were left out.

The layout of the released files could not be checked: their address no longer answers. For a file that is damaged,
unsafe or of another kind it prints one line, exits with code 2 and writes nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
