# SPDX-License-Identifier: Apache-2.0
"""Several clients at once: each a function in a thread; what one raises, the test raises."""
import threading

from harness import SLOW


def all_at_once(*jobs, seconds=60):
    """Runs the functions at the same moment; their results in order."""
    results, errors = [None] * len(jobs), []
    gate = threading.Barrier(len(jobs))

    def run(i, job):
        try:
            gate.wait(60)
            results[i] = job()
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=run, args=(i, job), daemon=True) for i, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds * SLOW)
        assert not thread.is_alive(), f"a client did not end within {seconds} s"
    if errors:
        raise errors[0]
    return results


class Background:
    """One function in a thread; result() waits for it."""

    def __init__(self, job):
        self.value = self.error = None

        def run():
            try:
                self.value = job()
            except BaseException as error:
                self.error = error
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self, seconds=60):
        self.thread.join(seconds * SLOW)
        assert not self.thread.is_alive(), f"not done within {seconds} s"
        if self.error:
            raise self.error
        return self.value
