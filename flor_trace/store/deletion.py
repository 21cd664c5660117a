"""Deleting a run, in one step: first it is moved aside, so that it is never half there."""

from __future__ import annotations

import os
import shutil

from flor_trace.errors import StoreUnreadable
from flor_trace.store import layout, locks

TRASH = "trash"
"""The folder of a store that what is being deleted is moved to."""


def delete_run(store: str, run_id: str) -> None:
    """Delete a run that nobody uses.

    Raises:
        StoreUnreadable: it cannot be deleted.
    """
    trash = os.path.join(store, TRASH)
    folder = layout.run_folder(store, run_id)
    try:
        os.makedirs(trash, exist_ok=True)
        aside = os.path.join(trash, run_id)
        with locks.Hold(folder, alone=True):
            os.rename(folder, aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise StoreUnreadable(f"cannot delete run {run_id}: {error.strerror or error}") from error
