"""Clients of S3 in a process that is forked while another thread makes one."""

from __future__ import annotations

import os
import signal
import threading

import botocore.session
import pytest
from botocore.loaders import Loader

from dvtool.remotes.transports.s3 import client


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_waits_for_no_thread_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, end = threading.Event(), threading.Event()
    create, thread_of_test = client.create_loader, threading.get_ident()

    def create_late(path: str | None) -> Loader:
        if threading.get_ident() != thread_of_test:
            begun.set()
            end.wait(60)
        return create(path)

    def begin_session() -> None:
        client._share_loader(botocore.session.get_session())

    monkeypatch.setattr(client, "create_loader", create_late)
    monkeypatch.setattr(client, "_loaders", {})
    thread = threading.Thread(target=begin_session)
    thread.start()
    begun.wait(60)
    child = os.fork()
    if not child:
        signal.alarm(20)
        begin_session()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    end.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
