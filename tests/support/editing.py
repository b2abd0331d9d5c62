"""A server of the editing page in a thread."""

import threading
from contextlib import contextmanager

from amodal_data.editing.journal import journal_path, open_journal
from amodal_data.editing.server import EditingServer
from amodal_data.editing.session import EditingSession
from amodal_data.editing.source import open_source


@contextmanager
def serving(path, **options):
    """The editing server of a file, with the photos beside it; options: see :func:`open_source`."""
    source = open_source(path, **options)
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal, [path.parent])
        with EditingServer(session) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()
