"""Recorded proofs, under their public name: `xlstm.proof.verify_folder`.

In: a ported folder. Out: its record, and a comparison with it.
"""

from xlstm.reading.record import Record as Record
from xlstm.reading.record import origin_of as origin_of
from xlstm.reading.record import read_record as read_record
from xlstm.reading.record import record as record
from xlstm.reading.record import versions as versions
from xlstm.verification.folder import Proof as Proof
from xlstm.verification.folder import verify_folder as verify_folder
