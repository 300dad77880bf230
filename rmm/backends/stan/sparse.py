"""Sparse matrices of the data in Stan programs: declared, multiplied and filled."""

from __future__ import annotations

from typing import Any

import numpy as np


def declared_sparse(name: str, rows: str, columns: str, what: str) -> list[str]:
    """Declarations of a sparse matrix, compressed by rows; `what` is a comment."""
    return [
        f"// sparse matrix {name}: {what}",
        f"int<lower=0> size_{name};  // number of its values",
        f"vector[size_{name}] {name};  // its values, row by row",
        f"array[size_{name}] int<lower=1, upper={columns}> column_{name};  // column of each value",
        f"array[{rows} + 1] int<lower=1> row_start_{name};  // first value of each row",
    ]


def product(name: str, rows: str, columns: str, vector: str) -> str:
    """Expression of a sparse matrix times a vector."""
    indent = " " * 30
    matrix = f"{rows}, {columns},\n{indent}{name}, column_{name}, row_start_{name}"
    return f"csr_matrix_times_vector({matrix},\n{indent}{vector})"


def sparse_values(name: str, matrix: Any) -> dict[str, Any]:
    """Data of a sparse matrix by name."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return {
        f"size_{name}": matrix.nnz,
        name: matrix.data,
        f"column_{name}": matrix.indices.astype(np.int64) + 1,
        f"row_start_{name}": matrix.indptr.astype(np.int64) + 1,
    }


def row_starts(codes: Any, count: int) -> Any:
    """1-based index of the first of each code 0, 1, ... in sorted codes, then the count plus 1."""
    return np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=count))]) + 1
