"""What checks every annotation of the package while the tests run: shapes, and types as mypy's."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is due
