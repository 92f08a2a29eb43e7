"""Clients of S3 in a process that is forked while another thread makes one."""

from __future__ import annotations

import os
import signal
import threading

import botocore.session
import pytest
from botocore.exceptions import DataNotFoundError
from botocore.loaders import Loader, create_loader

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


def test_a_service_is_found_without_a_look_at_all_others() -> None:
    session = botocore.session.get_session()
    client._share_loader(session)
    loader = session.get_component("data_loader")
    plain = create_loader()
    assert set(plain.list_available_services("service-2")) <= set(
        loader.list_available_services("service-2")
    )
    for kind in ("service-2", "endpoint-rule-set-1"):
        assert loader.load_service_model("s3", kind) == plain.load_service_model("s3", kind)
    for name, kind in (("no-such", "service-2"), ("s3", "no-such-1")):
        with pytest.raises(DataNotFoundError):
            loader.load_service_model(name, kind)
