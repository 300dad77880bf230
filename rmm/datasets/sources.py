"""Where the published data sets are, and what they hold.

No table is part of this package: each stays under its authors' licence (GPL), and is fetched from
the repository in which they publish it, at a commit, so that it cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass

_BML = "https://github.com/benrosche/bml/raw/caeafc9eed0f62228674cd6f43befc2953faec8f/data/"
_MLWIN = "https://github.com/cran/R2MLwiN/raw/9bda26b6184085b87956c9b85135b00f150ae852/data/"
_RMM = "https://github.com/benrosche/rmm/raw/eee2f821538100525bb51dda6f4f5f7e80ef91ad/data/"


@dataclass(frozen=True)
class Source:
    """A published data set.

    Attributes
    ----------
    address : str
        Where its authors publish the file.
    file : str
        Name of the file in the cache.
    frame : str
        Name of the data frame in the file.
    columns : tuple of str
        Its columns, in the order in which they are given.
    content : str
        `rmm.datasets.content.checksum` of these columns.
    """

    address: str
    file: str
    frame: str
    columns: tuple[str, ...]
    content: str


SOURCES: dict[str, Source] = {
    "coalgov": Source(
        address=_BML + "coalgov.rda",
        file="bml-coalgov.rda",
        frame="coalgov",
        columns=(
            "cid", "cname", "gid", "pid", "pname", "election", "investiture", "dur_wkb",
            "event_wkb", "n", "majority", "mwc", "rile_SD", "pseat", "prime", "rile", "cohesion",
            "finance", "Nmembers",
        ),
        content="66921d168c530e8ee5e66034558c0e1641b465630811e5af7dd1ce61ba3031d9",
    ),
    "coalgov_rmm": Source(
        address=_RMM + "coalgov.rda",
        file="rmm-coalgov.rda",
        frame="coalgov",
        columns=(
            "pid", "pname", "gid", "gname", "cid", "cname", "gstart", "gend", "n", "prime", "pfam",
            "rile", "ipd", "fdep", "pseatrel", "majority", "mwc", "hetero", "investiture",
            "pmpower", "earlyterm", "govdur", "govmaxdur", "sim.w", "sim.y", "sim.st", "sim.e",
        ),
        content="fc77bd87874848ce08076722871a76843bcbe1a50966ce87ce8635090a346ade",
    ),
    "schoolnets_nodes": Source(
        address=_RMM + "schoolnets.rda",
        file="rmm-schoolnets.rda",
        frame="nodedat",
        columns=(
            "schoolid", "youthid", "sex", "etn", "parent_edu", "parent_inc", "test_lang",
            "test_cogn",
        ),
        content="b8227d7f04b1124072b3784d50429f6ba2f82a5283f050eea22818adec8e4bd9",
    ),
    "schoolnets_edges": Source(
        address=_RMM + "schoolnets.rda",
        file="rmm-schoolnets.rda",
        frame="edgedat",
        columns=("youthid_from", "youthid_to", "rank"),
        content="c14d86b4d31f8d3a3ebff99580b28f099f2ba5060c42fbf297a6395cc29475f9",
    ),
    "wage1": Source(
        address=_MLWIN + "wage1.rda",
        file="r2mlwin-wage1.rda",
        frame="wage1",
        columns=(
            "id", "company", "company2", "company3", "company4", "age", "parttime", "sex", "cons",
            "earnings", "logearn", "numjobs", "weight1", "weight2", "weight3", "weight4", "ew1",
            "ew2", "ew3", "ew4", "age_40",
        ),
        content="17f4176264f70e32f2fcdf2590a7a967eb5ac32aef822088f3dda147c50cc111",
    ),
}  # fmt: skip
