"""Convert a file that TCANet's public training code wrote to a folder that `from_pretrained` loads.

python conversion/convert_tcanet_to_hf.py tca_checkpoint.pth.tar tcanet-hacs

The same as `internvideo convert`; `--help` lists the options. InternVideo released no file. Sizes come from the
shapes, and windows from the stored masks. No tensor shows the time from one feature to the next: name it by
`--config`, such as `{"step_seconds": 0.5333}` for 16 frames at 30 a second. The public SlowFast features have 8/15 s.

It prints the recognized family, and then, for the public sizes,

    Wrote 96 tensors (11,570,191 parameters, float32) to tcanet-hacs; 2 tensors of the file were left out.

The two are the masks of the windows. For a file that is damaged, unsafe or of another kind it prints one line, exits
with code 2 and writes nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
