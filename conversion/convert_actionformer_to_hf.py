"""Convert a file that ActionFormer's training wrote to a folder that `from_pretrained` loads.

python conversion/convert_actionformer_to_hf.py epoch_044_0.71580.pth.tar actionformer-thumos14

The same as `internvideo convert`; `--help` lists the options. The averaged weights, `state_dict_ema`, are converted.
InternVideo released no head, but its settings: a file whose features, width and classes are those of its heads for
THUMOS-14, ActivityNet, HACS or FineAction gets them. For others, name the windows of attention, the length and the
positions by `--config`, such as `{"attention_windows": 19, "max_sequence_length": 2304, "use_absolute_positions":
false}`.

It prints the recognized family, and then, for THUMOS-14,

    Wrote 230 tensors (28,268,573 parameters, float32) to actionformer-thumos14; 0 tensors of the file were left out.

One of the numbers is the running number of positive positions, with which training goes on. For a file that is
damaged, unsafe or of another kind it prints one line, exits with code 2 and writes nothing.
"""

import sys

from internvideo_hf.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
