"""What a long run says of the time that is left."""

import pytest

from training import progress


def test_time_left_counts_only_steps_of_this_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes on from its checkpoint did not do the steps before it in no time."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.ProgressView() as view:
        view(0, 1000, "documents\n")
        view(400, 1000, "tags 0.5")  # the first step after the checkpoint
        now = 60.0
        view(450, 1000, "tags 0.4")
        now = 100.0
        view(0, 300, "another run\n")
        view(1, 300, "tags 0.9")
        now = 160.0
        view(101, 300, "tags 0.8")
    lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines] == [
        "documents",
        "450/1000  tags 0.4  about 11 min left",
        "another run",
        "101/300  tags 0.8  about 2 min left",
    ]
