"""The pocket tokenizer: byte-level BPE in which a word is the same token wherever it stands.

Spaces, digits and underscores are pieces of their own and camelCase is split, so that `weather` in
a request, in `get_weather_forecast` and in `"weather"` is one and the same token. Copying a name or
a value from the request into a call is then copying tokens, which a small model can learn.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BOS, EOT, PAD = "<|begin_of_text|>", "<|eot_id|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|tools|>")
_PUNCTUATION = r"[^\p{L}\p{N}\s_]+"
_PIECES = (
    rf"\p{{Lu}}?\p{{Ll}}+|\p{{Lu}}+|\p{{L}}|\p{{N}}|_| ?{_PUNCTUATION}(?: {_PUNCTUATION})* ?|\s"
)

TEMPLATE = Path(__file__).parent / "weights" / "base" / "chat_template.jinja"


def train_tokenizer(texts: Iterable[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocab_size` entries fitted to `texts`, with the pocket chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOT, PAD, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOT,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
