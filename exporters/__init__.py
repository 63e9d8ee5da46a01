"""A snapshot in, a training set out: one folder of files with a card and a receipt, whole or not at all.

`exporters.export` has the doors `export`, `export_all` and `verify`; `exporters.validate` checks any folder of rows.
"""

from typing import TYPE_CHECKING

from lake.lazy import looked_up

if TYPE_CHECKING:
    from exporters.datasets import DATASETS
    from exporters.export import VerifyReport
    from exporters.faults import BadRow, FirewallBreach
    from exporters.formats import FORMATS, File
    from exporters.plan import Options
    from exporters.receipt import Counts, Receipt
    from exporters.relations import OffBalance
    from exporters.validate import Problem, ValidateReport

__all__ = [
    "DATASETS",
    "FORMATS",
    "BadRow",
    "Counts",
    "File",
    "FirewallBreach",
    "OffBalance",
    "Options",
    "Problem",
    "Receipt",
    "ValidateReport",
    "VerifyReport",
]

__getattr__ = looked_up(
    __name__,
    {
        "DATASETS": "exporters.datasets",
        "FORMATS": "exporters.formats",
        "BadRow": "exporters.faults",
        "Counts": "exporters.receipt",
        "File": "exporters.formats",
        "FirewallBreach": "exporters.faults",
        "OffBalance": "exporters.relations",
        "Options": "exporters.plan",
        "Problem": "exporters.validate",
        "Receipt": "exporters.receipt",
        "ValidateReport": "exporters.validate",
        "VerifyReport": "exporters.export",
    },
)
