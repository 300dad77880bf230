"""Sparse matrices of the data in Stan programs: declared, multiplied and filled."""

from __future__ import annotations

from typing import Any

import numpy as np


def declared_sparse(name: str, rows: str, columns: str, what: str) -> list[str]:
    """Declarations of a matrix, compressed by rows."""
    return [
        f"int<lower=0> size_{name};  // {what}",
        f"vector[size_{name}] {name};",
        f"array[size_{name}] int<lower=1, upper={columns}> column_{name};",
        f"array[{rows} + 1] int<lower=1> start_{name};",
    ]


def product(name: str, rows: str, columns: str, vector: str) -> str:
    """A matrix times a vector."""
    matrix = f"{rows}, {columns}, {name}, column_{name}, start_{name}"
    return f"csr_matrix_times_vector({matrix},\n{' ' * 30}{vector})"


def sparse_values(name: str, matrix: Any) -> dict[str, Any]:
    """Data of a matrix."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return {
        f"size_{name}": matrix.nnz,
        name: matrix.data,
        f"column_{name}": matrix.indices.astype(np.int64) + 1,
        f"start_{name}": matrix.indptr.astype(np.int64) + 1,
    }


def row_starts(codes: Any, count: int) -> Any:
    """1-based starts of the runs of 0, 1, ... in sorted codes, and the end."""
    return np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=count))]) + 1
