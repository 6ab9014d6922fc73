import pytest

from sottovoce.transcribing.follow import silent
from sottovoce.transcribing.job import watch
from sottovoce.transcribing.watching import POLL_SECONDS, Arrivals
from tests.transcribing.conftest import do, files


class Script:
    """What happens while a watch waits, one thing each time; Ctrl-C at the end."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.waited = []

    def __call__(self, seconds):
        self.waited.append(seconds)
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def nothing():
    pass


def watched(job, fake, folder, *steps, report=lambda done: None):
    folder.mkdir(exist_ok=True)
    script = Script(*steps)
    summary = watch(job, [folder], fake.open, silent, report, Arrivals([folder], script))
    assert set(script.waited) == {POLL_SECONDS}
    return [(one.recording.rpartition("/")[2], one.state) for one in summary.recordings]


def test_a_file_is_taken_once_it_has_stopped_growing(job, fake, record, tmp_path):
    states = []

    def begins():
        path = record("a.wav", 2.0)
        path.write_bytes(path.read_bytes()[:900])

    def grows():
        states.append(files(job.output) if job.output.exists() else {})
        record("a.wav", 3.0)

    done = watched(job, fake, tmp_path / "in", begins, grows, nothing, nothing)
    assert (states, done) == ([{}], [("a.wav", "done")])
    assert (job.output / "a.txt").read_text().count("\n") == 3


def test_each_is_transcribed_once_and_a_second_watch_knows_it(job, fake, record, tmp_path):
    record("a.wav")
    assert watched(job, fake, tmp_path / "in", nothing, nothing, nothing) == [("a.wav", "done")]
    assert watched(job, fake, tmp_path / "in", nothing) == [("a.wav", "earlier")]


def test_a_later_file_takes_no_name_that_is_taken(job, fake, record, tmp_path):
    record("a.wav")
    done = watched(job, fake, tmp_path / "in", nothing, lambda: record("a.flac"), nothing, nothing)
    assert done == [("a.wav", "done"), ("a.flac", "done")]
    assert list(files(job.output)) == ["a.flac.json", "a.flac.txt", "a.json", "a.txt"]


def test_what_is_wrong_with_a_later_file_is_told_and_the_watch_goes_on(job, fake, record, tmp_path):
    def comes():
        (job.output / "b.txt").write_text("mine")
        record("b.wav"), record("c.wav")

    told = []
    record("a.wav")
    done = watched(job, fake, tmp_path / "in", nothing, comes, nothing, report=told.append)
    assert done == [("a.wav", "done"), ("b.wav", "failed"), ("c.wav", "done")]
    assert "b.txt is not what this job wrote" in told[1].error
    assert len(told) == 3


def test_of_two_that_come_together_under_one_name_the_second_is_told(job, fake, record, tmp_path):
    one, other = tmp_path / "in" / "x", tmp_path / "in" / "y"
    one.mkdir(parents=True), other.mkdir()

    def come():
        record("x/a.wav"), record("y/a.wav"), record("y/b.wav")

    script = Script(come, nothing, nothing)
    summary = watch(job, [one, other], fake.open, silent, lambda done: None, Arrivals([one, other], script))
    assert [(done.name, done.state) for done in summary.recordings] == [
        ("a.wav", "done"),
        ("a.wav", "failed"),
        ("b.wav", "done"),
    ]
    assert "would write the same files" in summary.recordings[1].error


def test_what_is_there_and_in_the_way_is_refused_before_the_model_is_opened(job, fake, record, tmp_path):
    record("a.wav")
    do(job, fake, tmp_path / "in")
    (job.output / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not what this job wrote"):
        watched(job, fake, tmp_path / "in")
    assert fake.opened == 1


def test_a_file_that_was_read_before_it_was_whole_is_taken_again_when_it_has_changed(job, fake, record, tmp_path):
    """It stayed half of its text: a watch looked at each file once."""

    def begins():
        fake.breaks["a.wav"] = 1.0
        record("a.wav", 3.0)

    def grows():
        del fake.breaks["a.wav"]
        record("a.wav", 4.0)

    told = []
    done = watched(job, fake, tmp_path / "in", begins, *[nothing] * 3, grows, nothing, nothing, report=told.append)
    assert [one.state for one in told] == ["failed", "done"]
    assert done == [("a.wav", "done")]
    assert (job.output / "a.txt").read_text().count("\n") == 4
