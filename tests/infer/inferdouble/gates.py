# SPDX-License-Identifier: Apache-2.0
"""Gates: places where answers wait until the test says go on."""
import threading
import time


class Gate:
    """Shut at first. `waiting` answers stand at it now; open() lets them and all that follow pass, one(n) only n of them."""

    def __init__(self):
        self.condition = threading.Condition()
        self.is_open = False
        self.passes = 0
        self.waiting = 0
        self.arrived = 0    # that have ever stood here

    def open(self):
        with self.condition:
            self.is_open = True
            self.condition.notify_all()

    def shut(self):
        with self.condition:
            self.is_open = False

    def one(self, n=1):
        with self.condition:
            self.passes += n
            self.condition.notify_all()

    def wait_for(self, n=1, seconds=20):
        """Until n answers have arrived here."""
        with self.condition:
            done = self.condition.wait_for(lambda: self.arrived >= n, seconds)
        assert done, f"{self.arrived} of {n} answers came to the gate within {seconds} s"

    def arrive(self):
        with self.condition:
            self.waiting += 1
            self.arrived += 1
            self.condition.notify_all()

    def leave(self):
        with self.condition:
            self.waiting -= 1

    def may_pass(self, seconds):
        """True once this answer may go on; else False after so long."""
        end = time.monotonic() + seconds
        with self.condition:
            while not self.is_open and not self.passes:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self.condition.wait(left)
            if not self.is_open:
                self.passes -= 1
            return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open()
