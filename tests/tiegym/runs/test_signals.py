"""Signals while runs are open: for all of them, given back in the end, whoever closes when."""

import gc
import os
import signal
import threading

import pytest

from tiegym.runs.signals import SIGNALS, StopSignals


@pytest.fixture(autouse=True)
def handlers():
    """Handlers of the caller, which must be there again in the end."""
    came = []

    def mine(number, frame):
        came.append(number)

    before = {number: signal.signal(number, mine) for number in SIGNALS}
    yield came
    after = [signal.getsignal(number) for number in SIGNALS]
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == [mine, mine]


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_interleaved_runs_give_the_signals_back_whatever_the_order(handlers, order):
    runs = [StopSignals(), StopSignals()]
    runs[order[0]].close()
    send()
    assert runs[order[1]].received == signal.SIGTERM
    assert runs[order[0]].received is None
    runs[order[1]].close()
    assert handlers == []
    send()
    assert handlers == [signal.SIGTERM]


def test_a_signal_is_for_all_open_runs_and_the_second_one_is_the_callers(handlers):
    runs = [StopSignals(), StopSignals()]
    send(signal.SIGINT)
    assert [run.received for run in runs] == [signal.SIGINT] * 2
    assert handlers == []
    send(signal.SIGINT)
    assert handlers == [signal.SIGINT]
    for run in runs:
        run.close()
        run.close()


def in_another_thread(function):
    raised = []

    def run():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not raised


def test_a_run_may_be_closed_in_another_thread(handlers):
    run = StopSignals()
    in_another_thread(run.close)
    send()  # nothing is open any more
    assert handlers == [signal.SIGTERM]
    assert run.received is None
    StopSignals().close()  # the main thread's next one gives back what is left to give


def test_a_run_of_another_thread_hears_of_signals_while_the_main_thread_has_one(handlers):
    opened = []
    in_another_thread(lambda: opened.append(StopSignals()))
    mine = StopSignals()
    send()
    assert opened[0].received == mine.received == signal.SIGTERM
    opened[0].close()
    mine.close()


def test_a_handler_that_was_set_meanwhile_is_left_alone(handlers):
    def other(number, frame):
        pass

    run = StopSignals()
    mine = signal.signal(signal.SIGTERM, other)
    run.close()
    assert signal.getsignal(signal.SIGTERM) is other
    assert mine is not other
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))


def test_a_run_that_is_dropped_without_being_closed_keeps_no_signal(handlers):
    dropped = StopSignals()
    del dropped
    gc.collect()
    send()
    assert handlers == [signal.SIGTERM]
    run = StopSignals()
    send()
    assert run.received == signal.SIGTERM
    run.close()


def test_a_run_takes_the_signals_from_whoever_took_them_from_an_older_run(handlers):
    older, came = StopSignals(), []
    signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    newer = StopSignals()
    send()
    assert newer.received == older.received == signal.SIGTERM
    send()
    assert came == [signal.SIGTERM]
    newer.close()
    older.close()
    assert came == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
