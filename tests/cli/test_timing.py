import json


def test_the_command_prints_a_table_or_one_document(toy, command):
    words = ["bench", toy("moonshine"), "--threads", 1, "--seconds", 1, "--tokens", 2, "--rounds", 1]
    told = command(*words, "--json")
    assert told.code == 0
    assert json.loads(told.out)["speeds"][0]["threads"] == 1
    assert "token ms" in command(*words).out
