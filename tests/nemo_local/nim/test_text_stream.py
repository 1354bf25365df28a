"""The text of a reply in writing: given out only where it is final."""

from nemo_local.nim.generation import TextStream
from tests.nemo_local.nim.conftest import Writer


def test_stop_strings_are_found_across_tokens_and_only_there() -> None:
    letters = {i: chr(i) for i in range(128)}

    def decode(ids: list[int]) -> str:
        return "".join(letters[i] for i in ids)

    stream = TextStream(decode, ("STOP", "END"))
    given = [stream.push(ord(letter)) for letter in "a ST SEN STOP b"[:13]]
    assert "".join(given) == "a ST SEN " and stream.stopped_by == "STOP"
    unfinished = TextStream(decode, ("STOP",))
    given = [unfinished.push(ord(letter)) for letter in "x STO"]
    assert "".join(given) == "x " and unfinished.finish() == "STO"


def test_a_stop_string_among_the_least_tokens_of_a_reply_does_not_end_it() -> None:
    stream = TextStream(lambda ids: "".join(map(chr, ids)), ("ab",), min_tokens=2)
    given = [stream.push(ord(letter)) for letter in "abcab"]
    assert "".join(given) == "abc" == stream.text and stream.stopped_by == "ab"


def test_a_character_of_several_tokens_is_given_out_whole(writer: Writer) -> None:
    ids = writer.checkpoint.encode("€ä", special=False)
    stream = TextStream(writer.checkpoint.decode, ())
    pieces = [stream.push(i) for i in ids]
    assert [p for p in pieces if p] == ["€", "ä"] and len(ids) > 2
