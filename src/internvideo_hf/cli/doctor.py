"""`doctor`: what works on this machine."""

import typer

from internvideo_hf.cli.reporting import DONE_IN_PART


def doctor() -> None:
    """Show what really works on this machine: decoders, attention kernels, optional extras.

    Exit code 1 where something broken is needed by the core of the package.
    """
    from internvideo_hf.cli.checks import examine, table

    checks = examine()
    typer.echo(table(checks))
    broken = [check.name for check in checks if check.needed and not check.works]
    if broken:
        typer.echo(f"The package cannot work here: {', '.join(broken)}.", err=True)
        raise typer.Exit(DONE_IN_PART)
