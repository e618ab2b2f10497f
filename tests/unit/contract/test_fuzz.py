"""Any bytes end in a record or a typed error; `make fuzz` tries a million."""

from contract.errors import Reason
from tests.fuzz import fuzz


def test_any_bytes_end_in_a_record_or_a_typed_error() -> None:
    """In bulk as alone; and every reason that bytes can give has come up, so the mutations reach all there is."""
    outcomes, _ = fuzz(20_000, seed=1)
    assert outcomes.total() == 20_000
    others = {Reason.ID_IN_HEADERS, Reason.OTHER_TOPIC, Reason.HANDLER, Reason.COMPRESSION}  # not a matter of the bytes
    assert outcomes.keys() == {*Reason, "a record"} - others
