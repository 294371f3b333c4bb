"""Users' files of data, CSV and Parquet, checked whole and turned into arrays; it loads no torch."""

from mamlcli.tabular.read import read_table
from mamlcli.tabular.table import Table

__all__ = ["Table", "read_table"]
