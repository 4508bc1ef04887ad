import os
import pty
import signal
import subprocess
import sys
import threading
from textwrap import dedent

import pytest

from thalweg.training.interrupt import Interrupt

LOOP = dedent("""
    import sys
    from time import sleep
    from thalweg.training.interrupt import Interrupt
    try:
        with Interrupt() as interrupt:
            print("ready", flush=True)
            for step in range(1000):
                sleep(0.01)
                if interrupt.signal and "--stubborn" not in sys.argv:
                    break
                if interrupt.signal:
                    print("heard", flush=True)
    except KeyboardInterrupt:
        print("at once", flush=True)
        sys.exit(9)
    print("saved", interrupt.signal, flush=True)
    sys.exit(interrupt.exit_code)
""")


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", LOOP, *arguments], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_one_signal_ends_the_loop_in_order(number, code):
    process = start()
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert out == f"saved {int(number)}\n"
    assert process.returncode == code


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_ctrl_c_after_a_signal_stops_at_once(first):
    process = start("--stubborn")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(first)
    assert process.stdout.readline() == "heard\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert out.endswith("at once\n")
    assert process.returncode == 9


def test_a_key_pressed_in_a_terminal_is_heard():
    leader, follower = pty.openpty()
    take_terminal = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    process = subprocess.Popen(
        [sys.executable, "-c", take_terminal + LOOP],
        stdin=follower,
        stdout=follower,
        start_new_session=True,
    )
    os.close(follower)
    assert os.read(leader, 100).strip() == b"ready"
    os.write(leader, b"\x03")
    assert process.wait(timeout=30) == 130
    assert b"saved 2" in os.read(leader, 100)
    os.close(leader)


def test_the_handlers_of_before_are_put_back():
    def mine(number, frame):
        raise AssertionError

    before, of_ctrl_c = signal.signal(signal.SIGTERM, mine), signal.getsignal(signal.SIGINT)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is of_ctrl_c
    finally:
        signal.signal(signal.SIGTERM, before)


def test_they_are_put_back_after_an_error_too():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), Interrupt():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_was_ignored_is_heard_inside():
    """As for a background job of a script: kill -INT must reach it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.exit_code == 130
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_two_sigterms_are_as_one():
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.exit_code == 143


def test_without_a_signal_there_is_nothing():
    with Interrupt() as interrupt:
        pass
    assert not interrupt
    assert interrupt.exit_code == 0


def test_outside_the_main_thread_it_does_nothing():
    found, before = [], signal.getsignal(signal.SIGINT)

    def work():
        with Interrupt() as interrupt:
            found.append(interrupt.exit_code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]
    assert signal.getsignal(signal.SIGINT) is before
