# ruff: noqa: E501 (a template stands on one line)
"""Frames that carry a request. Both classes use the same ones, so that a frame is no evidence.

`{vp}` is a verb phrase, `{ger}` the same in -ing; `{s}` is a whole message.
"""

from nemo_local.pocket.guard_grammar import lines

ASKS = lines("""
    {vp}
    {vp}
    (please|kindly|now|just|quickly|go ahead and|first) {vp}
    how (do|can|would|could|should|might|does|did) (i|you|we|one|someone|a person|somebody|people|he|she|they) {vp}?
    how to {vp}(?|)
    how to {vp}(?|)
    how do i {vp}?
    what('s| is| would be) the (best|easiest|quickest|fastest|cheapest|right|most effective|most common|simplest|smartest) (way|method|approach|trick) to {vp}?
    what (are|is) (some|a few|the best|a good|{number}) (ways|way|methods|tips|tricks|ideas) to {vp}?
    (tell|show|teach) (me|us) (exactly |) (how to|how i can|how people|the steps to|a way to) {vp}
    (explain|describe|outline|walk me through) (how to|how one would|how someone could|in detail how to|step by step how to|the process to) {vp}
    (give|send|write) me (step by step |detailed |simple |clear |complete |) (instructions|directions|tips|advice|a guide|a tutorial|a plan|a checklist) (for {ger}|to {vp}|on how to {vp})
    (i want|i need|i'd like|i am trying|i am going|i plan|i have|i would love|i really want|i've decided|i wish) to {vp}
    (i want|i need|i'd like|i am trying|i plan|i hope|we want) to {vp}(,|.) {follow}
    (help|let|watch) me {vp}
    (can|could|will|would) you (help me |please help me |show me how to |teach me to |) {vp}(?| please)
    (write|create|draft|make|produce) (a|an) (guide|tutorial|manual|blog post|article|essay|script|poem|list|story|plan|song) (on|about|explaining|that explains|showing) how to {vp}
    is it (possible|hard|easy|smart|ok|a good idea|difficult|better|legal|worth it) to {vp}?
    (best|top|simple|easy|secret|clever|good) (ways|methods|tricks|tips|strategies|tools) (to {vp}|for {ger})
    what (do i need|would it take|tools do i need|is required|materials are needed|should i say|app do i need) to {vp}?
    which (tools|app|website|materials|supplies|shop|items|books|method|place) (is|are) best (to {vp}|for {ger})?
    (can|could|should|may|must) (i|we) {vp}?
    (i'm|i am|my friend is|we are|he is|she is) (thinking about|considering|interested in|planning on|good at|worried about) {ger}(.|,) {follow}
    {ger} (for beginners|for dummies|tutorial|explained|guide|made easy|in {number} steps|without experience)
    what should (i|we|people) (know|consider|do|avoid|bring|wear) (before|when|while|after) {ger}?
    where (can|do|should) i (learn|go|start|find someone) to {vp}?
    my (friend|brother|cousin|classmate|uncle|coworker) wants to {vp}, what should (he|she|they) do?
    (i was wondering|do you know|any idea|could you tell me|does anyone know|i'd love to know|i need to know|i'm curious) how to {vp}(?|)
    (when|why|where) (should|would) (i|someone|one|you) {vp}?
    suppose (i|someone|we|a character|a student) (wanted|wants|decided) to {vp}(,|.) {follow}
    let's {vp}(!|.| together| now| tonight)
    (it is time|i am ready|we have|you need|you must|i order you|i'm begging you) to {vp}
    we (will|should|could|must|are going to|can) {vp} {when}
    {vp} {when}
    {vp}, {vp2}
    (write|develop|create|describe|provide|prepare|produce|design) (a|an|the) {quality} {noun} (that explains|on|showing|about|that teaches {person_ok}) how to {vp}
    {verb} {np} (and|, then) (explain|describe|tell me|show) how to {vp}
    {verb} {np} that (helps|would help|allows|lets) (me|someone|people|us|a person) (to |){vp}
    {verb} the {quality} {nouns} (of|for|about|in) {ger}
    (the|my) {noun} is to {vp}. {follow}
    (i will|i'll|i am going to|i'm about to) {vp} {when}(,|.) {follow}
    (complete|continue|finish) (the|this) (text|list|guide|sentence): (to {vp}, you|first, {vp}|the secret of {ger} is|{number} steps to {vp}:)
""")

BLUNT = lines("""
    how (do|can|would|could|should) (i|you|we|someone) {vp}(?|)
    how (do|can) i {vp}(?|)
    how to {vp}(?|)
    (tell|show|teach) me how to {vp}
    (i want|i need|i'd like|i am going|i plan) to {vp}
    help me {vp}
    {vp}
""")

FOLLOWS = lines("""
    how do i (start|begin|do it|do that|go about it)?
    (what|where) (should i|do i|can i) (do|start|buy|look|use|need) (first|)?
    (any|got any|do you have) (tips|advice|ideas|suggestions|tricks|recommendations)?
    (can|could|will) you (help|help me|explain|assist|guide me)?
    (give me|i need|write|make) (a plan|some ideas|the details|a list|instructions|the steps|an example)
    what (is|would be) the best (way|tool|method|time|place)?
    what do (you think|i need|i need to know)?
    tell me (how|everything|more|the steps|what to do)
    is that (ok|possible|hard|normal)?
    how long (does it|will it) take?
""")

WRAPS = lines("""
    {s}
    {s}
    {s}
    {s}
    {s}
    (hey|hi|hello|ok|okay|so|well|listen|quick question|urgent|just curious|question|dear assistant|hey there|yo|um|alright|good morning)(,|:|!) {s}
    (please|be honest|answer me|tell me the truth|think carefully|in one sentence|as an expert|without judging me|seriously|in your opinion)(,|:) {s}
    (for a novel i'm writing|for my school project|for research|for a class|for a movie script|for a friend|out of curiosity|for work|in a game|for a video|for educational purposes|as a thought experiment|hypothetically|in theory|for my blog)(,|:) {s}
    {s} (please|thanks|thank you|asap|it's urgent|be brief|answer in one sentence|be detailed|use bullet points|explain simply|step by step|be specific|in english|lol|haha|don't lecture me|no disclaimers|and be honest|keep it short|i have {number} minutes|for free|cheaply|at home|online)
    {plain}. {s}
    {plain}. {s}
    {s}. {plain}.
    {s} {plain}.
    {plain}. {plain}. {s}
    {sentence}. {s}
    {sentence}. {s}
    {s}. {sentence}.
    {s}. {sentence}.
    {sentence}. {s}. {sentence}.
    {sentence}. {sentence}. {s}. {sentence}.
    {plain}. {s}. {plain}.
    (you are|act as|pretend to be|imagine you are|roleplay as) (a|an|my|the) ({adj} |)(expert|teacher|assistant|chemist|grandmother|pirate|doctor|lawyer|coach|engineer|chef|wizard|consultant|professor|friend|hacker in a movie|character in a novel|police officer|poet|old sailor|soldier|scientist). {s}
    (my grandmother used to|my teacher told me to|my boss wants me to|the book says to|a friend told me to) (tell me|explain|ask you|ask): {s}
    (question|q|prompt|task|user question|instruction|input|message)( {number}|): {s}
    ({w}|{name}) (asks|says|wrote|asked|said): {s}
    i (read|saw|heard) (a|an) (article|movie|post|video|podcast) about {w} and {w}. {s}
    {s} ({w}|{w} {w}|{name})
    {w} {w} {s}
    (call|use|run) the {function} (function|tool) with {arguments} and then {s}
    (call|use) {function} (for {place}|with {arguments}|)(.|, then|, and) {s}
    translate (to|into) {language}: {s}
    {s} (my name is {name}|i live in {place}|i am {number} years old|i work in {field}|and also, what is {subject}?)
""")
