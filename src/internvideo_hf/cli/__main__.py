"""`python -m internvideo_hf.cli`."""

from internvideo_hf.cli import main

if __name__ == "__main__":
    main()
