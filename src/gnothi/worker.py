"""A worker process: takes jobs as JSON lines on standard input, answers with JSON lines on standard output.

Started by `gnothi.executor`, not by people. Anything that a library prints goes to standard error.
"""

import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict

from gnothi.executor import Job, failure_of, load_function


def main() -> None:
    """Work until standard input closes, which is also what happens when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what ends
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # stray prints must not break the protocol
    orders: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(line)
        os._exit(0)  # the parent is gone: stop at once, half-written units stay under their temporary names

    threading.Thread(target=listen, daemon=True).start()

    def say(**event: object) -> None:
        answers.write(json.dumps(event) + "\n")
        answers.flush()

    def report(_job: str, done: int, total: int, stage: str) -> None:
        say(event="progress", done=done, total=total, stage=stage)

    while True:
        order = json.loads(orders.get())
        fields = order["job"]
        job = Job(name=fields["name"], after=tuple(fields["after"]), payload=fields["payload"])
        try:
            load_function(order["function"])(order["folder"], job, report)
        except Exception as error:
            say(event="failed", failure=asdict(failure_of(job, error)))
        else:
            say(event="finished")


if __name__ == "__main__":
    main()
