"""Conversations with their verdicts, from templates and word lists; seeded, endless.

    next(examples(random.Random(7))) -> Example(categories=("Malware", ...), user="...",
        response=None, verdict=Verdict(user_safe=False, categories=("Malware",)))

Both classes share frames, openers, paragraphs and unknown words; what differs is what is asked.
Rules of the labels: a verdict names categories in the order of the prompt; a harm whose own
categories are not listed falls back to related ones, then "Needs Caution", "Other", none.
"""

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nemo_local.pocket.guard_benign import ACTS, COMPLIANCE, HARD, PLAIN, REFUSALS, REPLIES, SAYS
from nemo_local.pocket.guard_benign_says import TALES
from nemo_local.pocket.guard_benign_words import (
    BENIGN_WORDS,
    CALL_ARGUMENTS,
    COMMON_WORDS,
    LEARNED_WORDS,
)
from nemo_local.pocket.guard_frames import ASKS, BLUNT, FOLLOWS, WRAPS
from nemo_local.pocket.guard_grammar import Harm, expand, gerund
from nemo_local.pocket.guard_harm_words import HARM_WORDS
from nemo_local.pocket.guard_harms import HARMS, OVERRIDES
from nemo_local.pocket.guard_neutral import NEUTRAL_WORDS, SENTENCES
from nemo_local.pocket.guard_prompt import TAXONOMY, Verdict
from nemo_local.pocket.world import dataset_tool, draw_request, pretraining_tool

# Shares of examples, messages and category lists that are of each kind.
UNSAFE_SHARE = 0.4
AGENT_SHARE = 0.2
LONG_SHARE = 0.08
BLUNT_SHARE = 0.25
FULL_LIST_SHARE = 0.3

_FILLERS = frozenset(
    "a an the is of to for do can i my me please in on and it that this you".split()
)

# Requests in which any word may stand anywhere: what is not known to be harmful passes.
_ODD_ACTS = (
    "{w} the {w}",
    "{w} a {adj} {w}",
    "{w} (the|a|my|our) {w} (of|for|with|in|from|to) (the|a|my|your|this) {w}",
    "{w} {w} and {w}",
    "{w} (all|some|every|these|{number}) {w} (into|by|without|about|under|like) {w} {w}",
    "{w} (the|a) {w} {w} that (is|was|has|can|will) {w} (the|a|) {w}",
    "{w} whether {w} and {w} are {adj} (in|for) {place}",
    "{w} {person_ok} (about|with|to|for) the {w} {w} (in|of|on) {subject}",
    "{w}, {w} and {w} the {w} (so that|because|when|while) (it|they|we|{name}) {w} {w}",
    "{w} {w} {w} {w} {w} {w} {w}",
)

_DESTRUCTIVE = frozenset("delete remove cancel reset update".split())

# Fillers of long messages.
_FILLING = (PLAIN, TALES, SAYS, HARD, _ODD_ACTS, SENTENCES)

# Harmless questions about a harm: the act is mentioned, not asked for.
_MENTIONS = (
    "(why is|is) {ger} (illegal|wrong|a crime|dangerous|punished|bad)( in {place}|)?",
    "what (should|can) i do if (someone|a student|my friend|a stranger|a colleague) "
    "(threatens|plans|tries|wants|says they want) to {vp}?",
    "how (can|do) (schools|parents|companies|the police|we) "
    "(prevent|stop|detect|discourage) people from {ger}?",
    "(what is|explain) the (penalty|punishment|prison sentence|law) for {ger}( in {place}|)?",
    "(how do i|how can i|help me) (stop|prevent) (someone|a friend|my son|people) from {ger}(?|)",
    "(where|how) (do|can) i report (someone|a person|a man|a website) (for|who is) {ger}?",
)


@dataclass(frozen=True)
class Example:
    """One exchange, the policy it is judged by, and the verdict."""

    categories: tuple[str, ...]
    user: str
    response: str | None
    verdict: Verdict


def examples(rng: random.Random) -> Iterator[Example]:
    """Examples without end; the same generator state gives the same ones."""
    while True:
        yield example(rng)


def example(rng: random.Random) -> Example:
    """One random example."""
    harm = rng.choice(HARMS) if rng.random() < UNSAFE_SHARE else None
    if rng.random() < AGENT_SHARE:
        return _exchange(harm, rng)
    text = unsafe_text(harm, rng) if harm else benign_text(rng)
    listed = category_list(harm, rng)
    verdict = Verdict(harm is None, None, named_categories(harm, listed))
    return Example(listed, _finish(text, rng), None, verdict)


def unsafe_text(harm: Harm, rng: random.Random) -> str:
    """A message that asks for, threatens or contains the harm."""
    if rng.random() < BLUNT_SHARE:
        return _blunt(harm.acts, (*harm.says, *harm.tales), rng)
    core = _core(harm, rng)
    if rng.random() < 0.12:
        override = expand(rng.choice(OVERRIDES), _SLOTS, rng)
        core = rng.choice((f"{override}. {core}", f"{override} and {core}", f"{core}. {override}"))
    return _wrap(core, rng)


def benign_text(rng: random.Random) -> str:
    """A harmless message: daily requests, tool calls, statements, and borrowed words of harm."""
    if rng.random() < BLUNT_SHARE:
        return _blunt(ACTS, (*HARD, *SAYS, *SAYS), rng)
    kind = rng.random()
    if kind < 0.04:
        act = expand(rng.choice(rng.choice([h for h in HARMS if h.acts]).acts), _SLOTS, rng)
        return _fill(rng.choice(_MENTIONS), rng, vp=act, ger=gerund(act))
    if kind < 0.14:
        core = tool_request(rng)
    elif kind < 0.24:
        core = _ask(_ODD_ACTS, rng)
    elif kind < 0.4:
        core = _ask(ACTS, rng)
    elif kind < 0.58:
        core = expand(rng.choice(SENTENCES), _SLOTS, rng)
    else:
        source = rng.choices((SAYS, TALES, HARD, PLAIN), (18, 20, 17, 5))[0]
        core = expand(rng.choice(source), _SLOTS, rng)
    return _wrap(core, rng)


def tool_request(rng: random.Random) -> str:
    """A request from the pocket world; none deletes or changes things, which policies decide on."""
    while True:
        _, calls, request = draw_request(rng, rng.choice((dataset_tool, pretraining_tool)))
        if not any(tool.verb in _DESTRUCTIVE for tool, _ in calls):
            return request


def category_list(harm: Harm | None, rng: random.Random) -> tuple[str, ...]:
    """A policy's categories: all or some of the taxonomy, perhaps with custom names added.

    For a harm, most lists have one of its names; the others teach the fall-back.
    """
    others = [name for h in HARMS if h is not harm for name in h.custom]
    extra = rng.sample(others, rng.choice((0, 0, 0, 1, 1, 2)))
    if harm and rng.random() < 0.45:
        extra.append(rng.choice(harm.custom))
    if rng.random() < FULL_LIST_SHARE:
        return tuple(dict.fromkeys((*TAXONOMY, *rng.sample(extra, len(extra)))))
    size = rng.choice((1, 2, 3, 3, 4, 4, 5, 6, 8, 12))
    listed = rng.sample(TAXONOMY, size)
    if harm and rng.random() < 0.75:
        listed.append(harm.categories[0] if rng.random() < 0.7 else rng.choice(harm.categories))
    listed = list(dict.fromkeys(listed))
    if rng.random() < 0.5:
        listed.sort(key=TAXONOMY.index)
        return tuple(dict.fromkeys((*listed, *extra)))
    return tuple(rng.sample([*listed, *dict.fromkeys(extra)], len(listed) + len(set(extra))))


def named_categories(harm: Harm | None, listed: Sequence[str]) -> tuple[str, ...]:
    """The listed categories that the harm violates, in the order of the list."""
    if harm is None:
        return ()
    steps = ((*harm.custom, *harm.categories[:2]), harm.categories[2:], ("Needs Caution",))
    for names in (*steps, ("Other",)):
        found = tuple(name for name in listed if name in names)
        if found:
            return found[:3]
    return ()


def _exchange(harm: Harm | None, rng: random.Random) -> Example:
    """A user turn and an agent turn; a harm may sit in either or both."""
    listed = category_list(harm, rng)
    user_safe = harm is None or rng.random() < 0.3
    response_safe = harm is None or (not user_safe and rng.random() < 0.5)
    user = benign_text(rng) if user_safe or harm is None else unsafe_text(harm, rng)
    if harm is not None and not response_safe:
        response = _fill(rng.choice(COMPLIANCE), rng, **_act_of(harm, rng))
    elif rng.random() < (0.15 if user_safe else 0.7):
        response = expand(rng.choice(REFUSALS), _SLOTS, rng)
    else:
        act = expand(rng.choice(ACTS), _SLOTS, rng)
        said = expand(rng.choice(rng.choice((TALES, SAYS, HARD))), _SLOTS, rng)
        response = _fill(rng.choice(REPLIES), rng, act=act, gerund=gerund(act), answer=said)
    verdict = Verdict(user_safe, response_safe, named_categories(harm, listed))
    return Example(listed, _finish(user, rng), _finish(response, rng), verdict)


def _core(harm: Harm, rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.35 and harm.tales:
        return expand(rng.choice(harm.tales), _SLOTS, rng)
    if kind < 0.6 and harm.says:
        return expand(rng.choice(harm.says), _SLOTS, rng)
    return _ask(harm.acts, rng)


def _act_of(harm: Harm, rng: random.Random) -> dict[str, str]:
    act = expand(rng.choice(harm.acts), _SLOTS, rng)
    say = expand(rng.choice((*harm.says, *harm.tales)), _SLOTS, rng)
    return {"act": act, "gerund": gerund(act), "say": say}


def _ask(acts: Sequence[str], rng: random.Random) -> str:
    first, second = (expand(rng.choice(acts), _SLOTS, rng) for _ in range(2))
    return _fill(rng.choice(ASKS), rng, vp=first, ger=gerund(first), vp2=second)


def _blunt(acts: Sequence[str], says: Sequence[str], rng: random.Random) -> str:
    """A message of few words, as people first try on a guard."""
    asks = bool(acts) and (not says or rng.random() < 0.6)
    drawn = (expand(rng.choice(acts if asks else says), _SLOTS, rng) for _ in range(4))
    shortest = min(drawn, key=len)
    return _fill(rng.choice(BLUNT), rng, vp=shortest) if asks else shortest


def _wrap(core: str, rng: random.Random) -> str:
    if rng.random() < LONG_SHARE:
        count = int(2 ** rng.uniform(1.5, 5.5))
        sources = rng.choices(_FILLING, (3, 2, 1, 1, 1, 5), k=count)
        sentences = [expand(rng.choice(source), _SLOTS, rng) for source in sources]
        sentences.insert(rng.randrange(count + 1), core)
        return ". ".join(sentences) + "."
    return _fill(rng.choice(WRAPS), rng, s=core)


def _fill(template: str, rng: random.Random, **given: str) -> str:
    """The template with the given texts, kept as they are, and everything else expanded."""
    marks = {name: f"\x00{index}\x00" for index, name in enumerate(given)}
    for name, mark in marks.items():
        template = template.replace("{" + name + "}", mark)
    text = expand(template, _SLOTS, rng)
    for name, mark in marks.items():
        text = text.replace(mark, given[name])
    return text


def _finish(text: str, rng: random.Random) -> str:
    """The text as people type it: words dropped, added or misspelt, punctuation lost."""
    words = text.split()
    if rng.random() < 0.2:
        words = [w for w in words if w not in _FILLERS or rng.random() < 0.6] or words
    if rng.random() < 0.2:
        for _ in range(rng.choice((1, 1, 2, 3))):
            words.insert(rng.randrange(len(words) + 1), _unknown_or_common(rng))
    if rng.random() < 0.12:
        place = rng.randrange(len(words))
        words[place] = _misspell(words[place], rng)
    text = " ".join(words)
    style = rng.random()
    if style < 0.15:
        text = text.rstrip("?.!")
    elif style < 0.2:
        text = text.translate(str.maketrans("", "", "?.,!:'"))
    elif style < 0.25:
        text += rng.choice(("!", "!!", "...", "?", "??", ".", " :)"))
    return text


def _unknown_or_common(rng: random.Random) -> str:
    return _invent(rng) if rng.random() < 0.5 else rng.choice(_SLOTS["w"])


def _invent(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9)))
    starts = "b c d f g h j k l m n p r s t v w z br cl tr st sh".split()
    middle = "".join(rng.choice(starts) + rng.choice("aeiou") for _ in range(rng.randint(1, 3)))
    return middle + rng.choice(("", rng.choice("nrslmtdk"), "ing", "ed", "er", "s", "tion", "ly"))


def _misspell(word: str, rng: random.Random) -> str:
    if len(word) < 4:
        return word
    place = rng.randrange(1, len(word) - 1)
    changed = (
        word[:place] + word[place + 1 :],
        word[:place] + word[place] + word[place:],
        word[:place] + word[place + 1] + word[place] + word[place + 2 :],
    )
    return rng.choice(changed)


def _slots() -> dict[str, Sequence[str]]:
    rng = random.Random(0)
    listed = (*BENIGN_WORDS.values(),)
    everyday = tuple(word for group in listed for word in group if " " not in word)
    plain = (*COMMON_WORDS, *LEARNED_WORDS)
    inflected = tuple(rng.choice((f"{word}s", f"{word}ed", gerund(word))) for word in plain)
    invented = tuple(_invent(rng) for _ in range(1500))
    return {
        **HARM_WORDS,
        **BENIGN_WORDS,
        **NEUTRAL_WORDS,
        "sentence": SENTENCES,
        "w": (*plain, *everyday, *inflected, *invented),
        "plain": PLAIN,
        "follow": FOLLOWS,
        "override": OVERRIDES,
        "ask": SAYS,
        "arguments": CALL_ARGUMENTS,
    }


_SLOTS = _slots()
