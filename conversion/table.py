"""Generate the table of released files in README.md from `released.json`.

python conversion/table.py --write

Without `--write` it prints the page. A test fails if the page differs from what this script generates.
"""

import re
import sys
from pathlib import Path
from typing import Any

from internvideo_hf.checkpoints.matching import data_set_names
from internvideo_hf.checkpoints.released import published, released_rows, rows_of_file

PAGE = Path(__file__).with_name("README.md")
HEADER = "| Model | File | Classes | Option | Remark |\n| --- | --- | --- | --- | --- |\n"


def table_row(row: dict[str, Any]) -> str:
    """Return one line of the table, with the address only if it still answers."""
    file, has_unique_name = row["file"], len(rows_of_file(row["file"], row["family"])) == 1
    if (row["address"] or "").startswith("https://huggingface.co/"):
        file = f"[{file}]({row['address']})"
    data_sets = [] if has_unique_name else data_set_names(row)
    option = f"`--data-set {data_sets[0]}`" if data_sets else ""
    remark = "; ".join(filter(None, [published(row), row["note"]]))
    return f"| {' | '.join([row['name'], file, row['labels'] or '', option, remark])} |\n"


def generate(page: str) -> str:
    """Return the page with the rows of its table replaced."""
    rows = "".join(map(table_row, released_rows()))
    return re.sub(rf"{re.escape(HEADER)}(\|.*\n)*", lambda _: HEADER + rows, page)


if __name__ == "__main__":
    text = generate(PAGE.read_text(encoding="utf-8"))
    if "--write" in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
