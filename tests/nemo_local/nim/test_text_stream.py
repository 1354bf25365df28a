"""The text of a reply in writing: given out only where it is final."""

from dataclasses import replace
from itertools import product
from pathlib import Path

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from nemo_local.nim.checkpoint import Checkpoint, load_checkpoint
from nemo_local.nim.generation import TextStream
from nemo_local.nim.grammars.constraints import Grammars
from tests.nemo_local.nim.conftest import Writer
from tests.tiny_checkpoint import entry, make_checkpoint


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


def test_a_character_before_bytes_that_are_none_is_in_the_whole_reply_as_in_the_stream() -> None:
    smile = [f"<0x{byte:02X}>" for byte in "😀".encode()]
    words = ["<unk>", *smile, "a", "▁b"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    ends = {("a", *smile, *smile[:2]): "a😀��", (*smile, *smile[:3], "▁b"): "😀��� b"}
    pieces = (smile, smile[:1], smile[1:2], ["a"], ["▁b"])
    for some in (*ends, *(sum(four, []) for four in product(pieces, repeat=4))):
        ids = [vocabulary[word] for word in some]
        streamed, whole = TextStream(tokenizer.decode, ()), TextStream(tokenizer.decode, ())
        given = [streamed.push(token_id) for token_id in ids]
        for token_id in ids:
            whole.keep(token_id)
        assert whole.finish() == whole.text == "".join(given) + streamed.finish()
        assert whole.text == ends.get(tuple(some), whole.text)


def words_with_spaces() -> tuple[Tokenizer, dict[str, int]]:
    """A tokenizer whose texts begin without the space of their first word, as SentencePiece's."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in b"ab"), "▁The", "▁capital", "▁is", "<s>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    return tokenizer, vocabulary


def test_a_token_is_shown_with_the_space_that_its_bytes_have(checkpoint: Checkpoint) -> None:
    tokenizer, vocabulary = words_with_spaces()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    spaced = replace(checkpoint, grammars=Grammars(made, len(vocabulary), [vocabulary["<s>"]]))
    assert spaced.decode_token(vocabulary["▁is"]) == (" is", list(b" is"))


def test_a_whole_reply_keeps_the_spaces_of_its_tokens_as_a_stream_does(
    checkpoint: Checkpoint,
) -> None:
    words = Tokenizer(models.WordLevel({"yes": 0, ".": 1}, unk_token="."))  # joined with spaces
    words.add_special_tokens(["<s>"])
    made = PreTrainedTokenizerFast(tokenizer_object=words, clean_up_tokenization_spaces=True)
    assert made.decode([0, 1]) == "yes."
    for dropped in (frozenset[int](), frozenset({2})):
        cleaning = replace(checkpoint, tokenizer=made, dropped_ids=dropped)
        assert cleaning.decode([0, 1]) == cleaning.decode_calls([0, 1, 2]) == "yes ."


def test_the_first_word_of_a_reply_keeps_its_space_where_a_text_begins_without() -> None:
    tokenizer, vocabulary = words_with_spaces()
    prompt = [vocabulary[word] for word in ("<s>", "▁The", "▁capital")]
    for begun, text in ((prompt, " is The"), (prompt[:1], "is The"), ([], "is The")):
        streamed = TextStream(tokenizer.decode, ("is",), min_tokens=1, prompt=begun)
        whole = TextStream(tokenizer.decode, (), prompt=begun)
        given = []
        for word in ("▁is", "▁The"):
            given.append(streamed.push(vocabulary[word]))
            whole.keep(vocabulary[word])
        assert whole.finish() == text == "".join(given) + streamed.finish()
        assert streamed.stopped_by is None  # the first token is one of the least


def test_spaces_before_punctuation_stay_also_where_a_tokenizer_asks_to_remove_them(
    tmp_path: Path,
) -> None:
    """A stream could not remove them: the piece with the space was sent before."""
    folder = make_checkpoint(tmp_path)
    words = ["<unk>", "<|eot_id|>", "▁Hello", "▁."]
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=0))
    tokenizer.decoder = decoders.Metaspace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|eot_id|>", clean_up_tokenization_spaces=True
    ).save_pretrained(folder)
    assert load_checkpoint(entry("acme/tiny", folder), "cpu").decode([2, 3]) == "Hello ."
