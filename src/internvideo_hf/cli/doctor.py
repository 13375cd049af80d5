"""Diagnosis of an installation: `doctor`."""

import typer

from internvideo_hf.cli.reporting import PARTIAL, say


def doctor() -> None:
    """Check what works on this machine: decoders, attention kernels, optional extras.

    Exit code 1 if the core of the package cannot work.
    """
    from internvideo_hf.cli.checks import run_checks, table

    checks = run_checks()
    say(table(checks))
    broken = [check.name for check in checks if check.needed and not check.works]
    if broken:
        say(f"The package cannot work here: {', '.join(broken)}.", err=True)
        raise typer.Exit(PARTIAL)
