"""What a study concludes, as comparisons that any numbers can be put to: its `claims.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from regroup.errors import RegroupError
from regroup.report.columns import Column
from regroup.report.comparison import Relation
from regroup.report.measures import SIDES, ClassIoU, Early, Measure, OfImages
from regroup.report.reference import Reference, ReferenceTable, RowRef
from regroup.settings import EachOnce, Settings, parse, read_yaml

Names = Annotated[tuple[str, ...], Field(min_length=1), EachOnce]


class Claim(Settings):
    """One conclusion: each of `rows` against each of `to`, in each of `columns`.

    Attributes:
        id: names it in files.
        table: whose rows are meant, and where it stands in the report.
        section: of the publication.
        text: the conclusion, in our words.
        rows: rows of the table, or `table/row`; of a measure of images its sides.
        to: what each of them is compared with.
        columns: of the table; none where images are measured.
        to_column: the column of `to`, where it is another.
        relation: what is claimed of the difference.
        factor: `rows` are compared with this part of `to`.
        measure: what is compared, where it is no cell of the table.
    """

    id: str
    table: int
    section: str
    text: str
    rows: Names
    to: Names
    columns: Annotated[tuple[Column, ...], EachOnce] = ()
    to_column: Column | None = None
    relation: Relation
    factor: float = Field(default=1.0, gt=0, le=1)
    measure: Measure | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        of_images = isinstance(self.measure, OfImages)
        if of_images == bool(self.columns):
            raise ValueError("columns: name some, or none where `measure` is of images")
        if isinstance(self.measure, Early | ClassIoU) and any("/" in column for column in self.columns):
            raise ValueError(f"columns: `measure: {self.measure.kind}` is of datasets alone")
        if self.measure is not None and self.to_column is not None:
            raise ValueError("to_column: is for cells of tables; leave it out beside `measure`")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """Classes that are compared one by one; else one empty part."""
        one_by_one = isinstance(self.measure, ClassIoU) and not self.measure.together
        return self.measure.classes if isinstance(self.measure, ClassIoU) and one_by_one else ("",)

    def ref(self, row: str) -> RowRef:
        """A row as it is named in this claim: `row`, or `table/row` for another table's."""
        table, _, name = row.rpartition("/")
        return RowRef(table=int(table) if table else self.table, row=name)


class Claims(Settings):
    """All claims, and the margin of "similar" in percentage points."""

    margin: float = Field(gt=0, le=100)
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({claim.id for claim in self.claims}) < len(self.claims):
            raise ValueError("two claims have the same id")
        return self


NO_CLAIMS = Claims(margin=0.5, claims=())
"""Of a study that concludes nothing."""


def load_claims(path: Path, *, reference: Reference) -> Claims:
    """Read and check the claims of a study; it may have none.

    Raises:
        RegroupError: an unknown key, table, row, or a column that a row's table does not have.
    """
    if not path.is_file():
        return NO_CLAIMS
    claims = parse(Claims, read_yaml(path), path)
    for claim in claims.claims:
        try:
            _check(claim, reference)
        except RegroupError as error:
            raise RegroupError(f"{path}: claim {claim.id}: {error}") from None
    return claims


def _check(claim: Claim, reference: Reference) -> None:
    reference.table(claim.table)
    if isinstance(claim.measure, OfImages):
        known = SIDES[claim.measure.of]
        for name in (*claim.rows, *claim.to):
            if name not in known:
                raise RegroupError(f"{name}: `{claim.measure.of}` has {' and '.join(known)}")
        return
    for names, column in ((claim.rows, None), (claim.to, claim.to_column)):
        for name in names:
            columns = claim.columns if column is None else (column,)
            if unknown := set(columns) - set(_table_of(claim, name, reference).columns):
                number = claim.ref(name).table
                raise RegroupError(f"table {number} has no {', '.join(sorted(unknown))}")


def _table_of(claim: Claim, name: str, reference: Reference) -> ReferenceTable:
    try:
        ref = claim.ref(name)
        table = reference.table(ref.table)
        table.row(ref.row)
    except (RegroupError, ValueError) as error:
        raise RegroupError(f"{name}: {error}") from None
    return table
