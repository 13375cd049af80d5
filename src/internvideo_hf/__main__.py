"""`python -m internvideo_hf`."""

from internvideo_hf.cli import main

if __name__ == "__main__":
    main()
