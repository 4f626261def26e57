"""What a Meter says, by a clock that only moves with the answers. Prints JSON for test/lmeval/progress.test.ts."""

import json
from types import SimpleNamespace

from eval_hive_harness import progress

clock = SimpleNamespace(now=0.0)
progress.time = SimpleNamespace(monotonic=lambda: clock.now)


class Turn:
    """Ours after a while."""

    def __init__(self, waits_s: float) -> None:
        self.waits_s = waits_s

    @property
    def is_ours(self) -> bool:
        return self.waits_s == 0

    def wait(self) -> None:
        clock.now += self.waits_s
        self.waits_s = 0


def answers(total: int, answer_s: float, waits_s: float = 0) -> dict[str, object]:
    said: list[dict[str, object]] = []
    meter = progress.Meter(said.append, Turn(waits_s))
    meter.expect(total)
    with meter.answering("loglikelihood", total):
        for _ in range(total):
            clock.now += answer_s
            meter.answered("loglikelihood")
    nearly = [one["done"] for one in said if one["phase"] == "requests" and one["nearly_done"]]
    return {
        "nearly_done_at": nearly[0] if nearly else None,
        "phases": list(dict.fromkeys(one["phase"] for one in said)),
        "after_scoring_began": said[-1]["nearly_done"],
        "requests_s": round(meter.requests_s, 3),
        "total_s": round(meter.total_s, 3),
    }


print(
    json.dumps(
        {
            "steady": answers(100, 0.125),
            "quick": answers(1_000, 0.001),
            "single": answers(1, 30.0),
            "held": answers(10, 0.5, waits_s=60),
        }
    )
)
