"""Facts about published files, as tables: archives, label files, and the factors of published noise."""

import csv
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Https = Annotated[str, Field(pattern=r"^https://\S+$")]
Hex = Annotated[bytes, BeforeValidator(bytes.fromhex)]


class Row(BaseModel):
    """One line of a table; a column that is empty has the field's default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=Row)


def read(table: str, row: type[R]) -> list[R]:
    """The rows of ``TABLE.csv`` beside this module, in their order.

    Raises:
        pydantic.ValidationError: a value is not one of its column's.
    """
    file = Path(__file__).with_name(f"{table}.csv")
    with file.open(newline="", encoding="utf-8") as lines:
        return [row.model_validate({k: v for k, v in line.items() if v}) for line in csv.DictReader(lines)]
