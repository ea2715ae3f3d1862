"""The command that lists single kernels: what each asks of a GPU."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from warploom.cli.app import JsonOption, app, table
from warploom.cli.words import KERNELS
from warploom.errors import ArgumentError
from warploom.ground.tables import Column
from warploom.kernel_tools import kernels as single


@app.command(rich_help_panel=KERNELS)
def kernels(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only kernels whose name holds this.")] = "",
    version: Annotated[
        str, typer.Option("--version", metavar="VERSION", help="v1, v2, ...; shared: the operations all versions share.")
    ] = "",
    arch: Annotated[str, typer.Option("--arch", metavar="ARCH", help="Only this architecture, such as 90a.")] = "",
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="FOLDER", help="Cubins of another build; default: this package's own.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every kernel of this build: registers, spills, shared memory, occupancy."""
    found = [k for k in single.listing(arch or None, version or None, folder) if name in k.name]
    if not found:
        raise ArgumentError("no kernel matches; leave out the name, --version or --arch to see what there is")
    if as_json:
        extra = [{"signature": k.signature, "path": str(k.path), "occupancy": round(k.occupancy(), 3)} for k in found]
        print(json.dumps([asdict(k) | more for k, more in zip(found, extra, strict=True)], indent=2))
        return
    columns: list[str | Column] = [
        *("version", Column("kernel", wrap=True), Column("file", spare=2), "sm", Column("threads", spare=3)),
        *("registers", "local"),
        *("shared", "occupancy", Column("argument\nbytes", spare=4)),
    ]
    rows = [
        [
            k.version, k.name, Path(k.source).name if k.version != single.SHARED else k.source.removeprefix("kernels/"), k.arch,
            str(k.max_threads or "not stated"), str(k.registers), str(k.stack_bytes), str(k.shared_bytes), f"{k.occupancy():.0%}",
            str(k.parameter_bytes),
        ]
        for k in found
    ]  # fmt: skip
    table(f"{len(found)} kernels", columns, rows, 4)
