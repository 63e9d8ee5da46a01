"""A snapshot in, a training set out: one folder of files with a card and a receipt, whole or not at all.

`exporters.export` has the doors `export`, `export_all` and `verify`; `exporters.validate` checks any folder of rows.
"""

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
