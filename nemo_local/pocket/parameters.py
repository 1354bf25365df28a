# ruff: noqa: E501  (one parameter a line reads best)
"""The parameters that tools of the pocket world take: type, description, values, and how people say them."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from nemo_local.pocket.vocabulary import CITIES, COUNTRIES, PEOPLE, SURNAMES, WORDS

Kind = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "strings",
    "integers",
    "numbers",
    "matrix",
    "pair",
    "mapping",
]

# kind -> (how xLAM rows spell the type, the JSON Schema the spelling means)
TYPES: dict[Kind, tuple[tuple[str, ...], dict[str, Any]]] = {
    "string": (("str",) * 8 + ("Optional[str]",), {"type": "string"}),
    "integer": (("int",) * 8 + ("Optional[int]",), {"type": "integer"}),
    "number": (("float", "float", "float", "Union[int, float]"), {"type": "number"}),
    "boolean": (("bool",), {"type": "boolean"}),
    "strings": (
        ("List[str]", "List[str]", "Set[str]"),
        {"type": "array", "items": {"type": "string"}},
    ),
    "integers": (
        ("List[int]", "List[int]", "list[int]"),
        {"type": "array", "items": {"type": "integer"}},
    ),
    "numbers": (
        ("List[float]", "List[Union[int, float]]"),
        {"type": "array", "items": {"type": "number"}},
    ),
    "matrix": (
        ("List[List[int]]",),
        {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    ),
    "pair": (("Tuple[float, float]",), {"type": "array", "items": {"type": "number"}}),
    "mapping": (
        ("Dict[str, float]", "Dict[str, int]"),
        {"type": "object", "additionalProperties": {"type": "number"}},
    ),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter that tools may take."""

    name: str
    kind: Kind
    description: str
    value: Callable[[Random], Any]
    """Draws a value of the kind's JSON type."""
    mentions: tuple[str, ...]
    """Phrases for a request; `{v}` is the value as text."""
    defaults: tuple[Any, ...] = ()
    """Values that a tool may declare as the default."""


def _pick(text: str) -> Callable[[Random], Any]:
    options = text.split("|")
    return lambda rng: rng.choice(options)


def _whole(low: int, high: int) -> Callable[[Random], Any]:
    return lambda rng: rng.randint(low, high)


def _decimal(low: float, high: float, digits: int = 2) -> Callable[[Random], Any]:
    def draw(rng: Random) -> float:
        return round(rng.uniform(low, high), rng.randint(1, digits)) or 0.5

    return draw


def _date(rng: Random) -> str:
    return f"{rng.randint(2018, 2027)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def _time(rng: Random) -> str:
    return f"{rng.randint(0, 23):02d}:{rng.choice((0, 15, 30, 45)):02d}"


def _person(rng: Random) -> str:
    first = rng.choice(PEOPLE)
    return first if rng.random() < 0.4 else f"{first} {rng.choice(SURNAMES)}"


def _phrase(rng: Random) -> str:
    return " ".join(rng.sample(WORDS, rng.choice((1, 1, 2, 2, 3))))


def _title(rng: Random) -> str:
    return " ".join(word.capitalize() for word in rng.sample(WORDS, rng.choice((1, 2, 2, 3))))


def _handle(rng: Random) -> str:
    name = rng.choice(PEOPLE).lower()
    return f"{name}{rng.choice(('', '_', '.'))}{rng.choice((rng.choice(WORDS), str(rng.randint(1, 999))))}"


def _email(rng: Random) -> str:
    host = rng.choice(("example.com", "mail.com", "test.org", "company.io", "school.edu"))
    return (
        f"{rng.choice(PEOPLE).lower()}{rng.choice(('', '.' + rng.choice(SURNAMES).lower()))}@{host}"
    )


def _code(rng: Random) -> str:
    letters = "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=rng.randint(1, 3)))
    return f"{letters}{rng.choice(('', '-'))}{rng.randint(10, 99999)}"


def _domain(rng: Random) -> str:
    return f"{rng.choice(WORDS)}{rng.choice(('', rng.choice(WORDS)))}.{rng.choice(('com', 'org', 'net', 'io'))}"


def _ip(rng: Random) -> str:
    return ".".join(str(rng.randint(1, 254)) for _ in range(4))


def _path(rng: Random) -> str:
    folder = rng.choice(("/data/", "/home/user/", "./", "", "/tmp/"))
    ending = rng.choice(("csv", "json", "txt", "parquet", "xlsx"))
    return f"{folder}{rng.choice(WORDS)}{rng.choice(('', '_' + rng.choice(WORDS)))}.{ending}"


def _many(draw: Callable[[Random], Any], low: int = 2, high: int = 4) -> Callable[[Random], Any]:
    return lambda rng: [draw(rng) for _ in range(rng.randint(low, high))]


def _matrix(rng: Random) -> list[list[int]]:
    columns = rng.randint(2, 3)
    return [[rng.randint(0, 20) for _ in range(columns)] for _ in range(2)]


def _mapping(rng: Random) -> dict[str, int]:
    return {word: rng.randint(1, 50) for word in rng.sample(WORDS, rng.randint(1, 3))}


_PLACES = "|".join(CITIES)
_SYMBOL = _pick(
    "AAPL|MSFT|TSLA|NVDA|AMZN|GOOG|META|NFLX|IBM|ORCL|INTC|AMD|BABA|KO|PEP|DIS|BTC|ETH|SOL|XRP|BTC/USD|EUR/USD"
)
_CURRENCY = _pick("USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|CNY|BRL|MXN|SEK")
_LANGUAGE = _pick(
    "en|fr|de|es|it|pt|ja|zh|English|French|German|Spanish|Italian|Japanese|Arabic|Hindi"
)
_WORD = _pick("|".join(WORDS))

# name | kind | description | value | mentions | defaults
_TABLE: tuple[tuple[str, Kind, str, Callable[[Random], Any], str, tuple[Any, ...]], ...] = (
    ("city", "string", "The name of the city", _pick(_PLACES), "in {v}|for {v}|for the city of {v}|in the city {v}", ("London",)),
    ("country", "string", "The country name or code", _pick("|".join(COUNTRIES)), "in {v}|for {v}|from {v}|in the country {v}", ("US",)),
    ("date", "string", "The date as YYYY-MM-DD", _date, "on {v}|for {v}|dated {v}", ("today",)),
    ("return_date", "string", "The date of return as YYYY-MM-DD", _date, "returning on {v}|coming back {v}", ()),
    ("start_date", "string", "The first day of the period", _date, "from {v}|starting {v}|since {v}", ()),
    ("end_date", "string", "The last day of the period", _date, "until {v}|up to {v}|ending {v}", ()),
    ("time", "string", "The time of day as HH:MM", _time, "at {v}|at {v} o'clock", ("09:00",)),
    ("month", "string", "The name of the month", _pick("January|February|March|April|May|June|July|August|September|October|November|December"), "in {v}|during {v}|for {v}", ()),
    ("year", "integer", "The year", _whole(1960, 2027), "in {v}|from {v}|for the year {v}", (2024,)),
    ("days", "integer", "The number of days", _whole(1, 30), "for {v} days|over the next {v} days|covering {v} days", (7,)),
    ("nights", "integer", "The number of nights", _whole(1, 21), "for {v} nights|staying {v} nights", (1,)),
    ("years", "integer", "The number of years", _whole(1, 40), "over {v} years|for {v} years", (10,)),
    ("duration", "integer", "The duration in minutes", _whole(5, 240), "for {v} minutes|lasting {v} minutes", (30,)),
    ("age", "integer", "The age in years", _whole(18, 90), "aged {v}|who is {v} years old|at age {v}", ()),
    ("units", "string", "The unit system", _pick("metric|imperial|celsius|fahrenheit|kelvin"), "in {v}|in {v} units|using {v} units", ("metric",)),
    ("hourly", "boolean", "Whether to return hourly values", lambda rng: rng.random() < 0.6, "", (False,)),
    ("language", "string", "The language of the result", _LANGUAGE, "in {v}|in the language {v}|written in {v}", ("en",)),
    ("target_language", "string", "The language to translate into", _LANGUAGE, "into {v}|to {v}|to the target language {v}", ("en",)),
    ("latitude", "number", "The latitude in degrees", _decimal(-80, 80, 4), "at latitude {v}|latitude {v}|with a latitude of {v}", ()),
    ("longitude", "number", "The longitude in degrees", _decimal(-170, 170, 4), "longitude {v}|and longitude {v}|with a longitude of {v}", ()),
    ("coordinates", "pair", "Latitude and longitude as a pair", _many(_decimal(-80, 80, 3), 2, 2), "at {v}|at the coordinates {v}|near {v}", ()),
    ("symbol", "string", "The ticker symbol", _SYMBOL, "for {v}|of {v}|of the symbol {v}", ("AAPL",)),
    ("symbols", "strings", "The ticker symbols", _many(_SYMBOL, 2, 3), "for {v}|for the symbols {v}", ()),
    ("currency", "string", "The currency code", _CURRENCY, "in {v}|quoted in {v}|using {v}", ("USD",)),
    ("interval", "string", "The interval between values", _pick("1min|5min|15min|1h|4h|1day|1week|1month"), "at a {v} interval|with {v} interval|every {v}", ("1day",)),
    ("exchange", "string", "The exchange", _pick("NYSE|NASDAQ|LSE|TSE|HKEX|Binance|Coinbase|Kraken"), "on {v}|at the {v} exchange|listed on {v}", ()),
    ("limit", "integer", "The maximum number of results", _whole(1, 100), "limit it to {v}|at most {v} results|only the first {v}|up to {v} results", (10,)),
    ("count", "integer", "How many to return", _whole(1, 50), "{v} of them|exactly {v} items|with a count of {v}", (5,)),
    ("page", "integer", "The page of results", _whole(1, 40), "on page {v}|page {v}|from page {v}", (1,)),
    ("threshold", "number", "The threshold", _decimal(0, 100), "above a threshold of {v}|with threshold {v}", (0.5,)),
    ("account_id", "string", "The account identifier", _code, "for account {v}|of account {v}|on the account {v}", ()),
    ("patient_id", "string", "The patient identifier", _code, "for patient {v}|of patient {v}", ()),
    ("product_id", "integer", "The product identifier", _whole(1000, 999999), "for product {v}|of product number {v}|with product id {v}", ()),
    ("employee_id", "string", "The employee identifier", _code, "for employee {v}|of employee {v}", ()),
    ("user_id", "integer", "The user identifier", _whole(100, 99999), "for user {v}|of user number {v}|with user id {v}", ()),
    ("device_id", "string", "The device identifier", _code, "on device {v}|for device {v}", ()),
    ("vehicle_id", "string", "The vehicle identifier", _code, "for vehicle {v}|of vehicle {v}", ()),
    ("amount", "number", "The amount of money", _decimal(5, 5000), "of {v}|for an amount of {v}|worth {v}", ()),
    ("rate", "number", "The rate in percent", _decimal(0.5, 15), "at {v} percent|at a rate of {v}|with a {v} rate", ()),
    ("principal", "integer", "The principal", _whole(1000, 500000), "on {v}|with a principal of {v}|for a principal of {v}", ()),
    ("memo", "string", "A note on the payment", _phrase, "with the memo {v}|saying {v}|with a memo of {v}", ()),
    ("recurring", "boolean", "Whether it repeats", lambda rng: rng.random() < 0.6, "", (False,)),
    ("origin", "string", "Where it starts", _pick(_PLACES), "from {v}|starting in {v}|departing from {v}|leaving {v}", ()),
    ("destination", "string", "Where it ends", _pick(_PLACES), "to {v}|going to {v}|with destination {v}|arriving in {v}", ()),
    ("passengers", "integer", "The number of passengers", _whole(1, 9), "for {v} passengers|for {v} people|with {v} travelers", (1,)),
    ("travel_class", "string", "The class of travel", _pick("economy|business|first|premium"), "in {v} class|in {v}|flying {v}", ("economy",)),
    ("airline", "string", "The airline", _pick("Lufthansa|Emirates|Delta|Qantas|Iberia|Ryanair|KLM|JetBlue"), "with {v}|on {v}|by {v}", ()),
    ("budget", "integer", "The budget", _whole(50, 9000), "under {v}|with a budget of {v}|for less than {v}", ()),
    ("team", "string", "The team", _pick("Arsenal|Lakers|Yankees|Barcelona|Juventus|Chelsea|Bulls|Celtics|Ajax|Bayern|Rangers|Warriors"), "of {v}|for {v}|for the team {v}", ()),
    ("player", "string", "The player's name", _person, "of {v}|for {v}|for the player {v}", ()),
    ("league", "string", "The league", _pick("NBA|NFL|MLB|NHL|Premier League|La Liga|Serie A|Bundesliga|MLS"), "in the {v}|of the {v}|for the {v}", ("NBA",)),
    ("season", "string", "The season", _pick("2019|2020|2021|2022|2023|2024|2021-2022|2022-2023|2023-2024"), "in the {v} season|for season {v}|during the {v} season", ()),
    ("round_number", "integer", "The round", _whole(1, 40), "in round {v}|for round {v}", ()),
    ("ingredient", "string", "The main ingredient", _pick("chicken|beef|rice|pasta|tomato|garlic|onion|cheese|apple|salmon|tofu|lentils|spinach|mushroom"), "with {v}|using {v}|made of {v}", ()),
    ("ingredients", "strings", "The ingredients at hand", _many(_pick("chicken|beef|rice|pasta|tomato|garlic|onion|cheese|egg|salmon|tofu|lentils|spinach|mushroom")), "with {v}|from {v}|using {v}", ()),
    ("cuisine", "string", "The cuisine", _pick("Italian|Mexican|Indian|Thai|French|Greek|Japanese|Korean|Spanish|Turkish"), "from {v} cuisine|in {v} style|that is {v}", ()),
    ("diet", "string", "The diet", _pick("vegan|vegetarian|keto|paleo|gluten free|halal|kosher|low carb"), "for a {v} diet|that is {v}|suited to {v}", ()),
    ("servings", "integer", "The number of servings", _whole(1, 12), "for {v} servings|serving {v}|for {v} persons", (4,)),
    ("calories", "integer", "The maximum calories", _whole(100, 2500), "below {v} calories|with {v} calories|under {v} calories", ()),
    ("max_price", "number", "The highest price", _decimal(5, 900), "under {v}|costing at most {v}|cheaper than {v}", ()),
    ("min_price", "number", "The lowest price", _decimal(1, 90), "above {v}|costing at least {v}|more than {v}", ()),
    ("sort_by", "string", "The field to sort by", _pick("price|date|rating|name|popularity|distance|newest|relevance"), "sorted by {v}|ordered by {v}|sort by {v}", ("date",)),
    ("artist", "string", "The artist", _person, "by {v}|of {v}|from the artist {v}", ()),
    ("title", "string", "The title", _title, "for {v}|titled {v}|called {v}|named {v}", ()),
    ("genre", "string", "The genre", _pick("rock|jazz|pop|classical|horror|comedy|drama|thriller|fantasy|romance|mystery|documentary|folk|blues"), "in the {v} genre|of genre {v}|that is {v}", ()),
    ("explicit", "boolean", "Whether explicit content is allowed", lambda rng: rng.random() < 0.6, "", (False,)),
    ("director", "string", "The director", _person, "directed by {v}|by director {v}|from {v}", ()),
    ("rating", "number", "The lowest rating", _decimal(1, 10, 1), "rated above {v}|with a rating of {v}|rated at least {v}", ()),
    ("author", "string", "The author", _person, "by {v}|written by {v}|from the author {v}", ()),
    ("isbn", "string", "The ISBN", lambda rng: f"978{rng.randint(10**9, 10**10 - 1)}", "with isbn {v}|for isbn {v}|numbered {v}", ()),
    ("format", "string", "The format of the result", _pick("json|csv|pdf|xml|html|epub|png|txt"), "as {v}|in {v} format|as a {v}", ("json",)),
    ("weight", "number", "The weight in kilograms", _decimal(40, 140, 1), "weighing {v} kg|with a weight of {v}|at {v} kilograms", ()),
    ("height", "integer", "The height in centimeters", _whole(140, 210), "{v} cm tall|with a height of {v}|at a height of {v}", ()),
    ("gender", "string", "The gender", _pick("male|female|other"), "for a {v}|who is {v}|gender {v}", ()),
    ("dose", "number", "The dose in milligrams", _decimal(0.5, 500, 1), "at a dose of {v}|taking {v} mg|with {v} mg", ()),
    ("notes", "string", "Free notes", _phrase, "with the note {v}|noting {v}|with notes {v}", ("",)),
    ("numbers", "integers", "The numbers to use", _many(_whole(1, 200), 2, 5), "of {v}|for {v}|for the numbers {v}|on {v}", ()),
    ("values", "numbers", "The values to use", _many(_decimal(0, 100), 2, 5), "of {v}|for the values {v}|on {v}", ()),
    ("weights", "numbers", "The weight of each value", _many(_decimal(0, 1), 2, 4), "with the weights {v}|weighted by {v}", ()),
    ("n", "integer", "The number to use", _whole(1, 500), "of {v}|for {v}|for n = {v}|with n as {v}", ()),
    ("x", "number", "The first value", _decimal(-50, 50), "at x = {v}|for x equal to {v}|with x {v}", ()),
    ("y", "number", "The second value", _decimal(-50, 50), "y = {v}|and y equal to {v}|with y {v}", ()),
    ("base", "number", "The base length", _decimal(1, 60, 1), "with base {v}|with a base of {v}|whose base is {v}", ()),
    ("radius", "number", "The radius", _decimal(0.5, 90, 1), "with radius {v}|within a radius of {v}|with a radius of {v}", ()),
    ("matrix", "matrix", "The matrix as rows", _matrix, "of {v}|of the matrix {v}|for {v}", ()),
    ("precision", "integer", "The number of decimals", _whole(1, 10), "to {v} decimals|with {v} decimals|with a precision of {v}", (2,)),
    ("point", "pair", "The point", _many(_decimal(-20, 20, 1), 2, 2), "at {v}|at the point {v}|through {v}", ()),
    ("text", "string", "The text to use", _phrase, "of {v}|for the text {v}|in {v}|for the sentence {v}", ()),
    ("words", "strings", "The words to use", _many(_WORD), "of {v}|for the words {v}|among {v}", ()),
    ("max_length", "integer", "The maximum length", _whole(10, 500), "with at most {v} characters|no longer than {v}|up to length {v}", (100,)),
    ("case_sensitive", "boolean", "Whether case matters", lambda rng: rng.random() < 0.6, "", (False,)),
    ("pattern", "string", "The pattern", lambda rng: f"{rng.choice(WORDS)[:4]}{rng.choice(('*', '.*', '+', '?'))}", "matching {v}|with the pattern {v}|like {v}", ()),
    ("product", "string", "The product", _phrase, "for {v}|for the product {v}|of a {v}", ()),
    ("quantity", "integer", "The quantity", _whole(1, 60), "{v} pieces|with quantity {v}|a quantity of {v}", (1,)),
    ("category", "string", "The category", _pick("electronics|books|toys|clothing|garden|sports|music|science|history|general|animals|food"), "in the {v} category|from category {v}|about {v}", ()),
    ("color", "string", "The color", _pick("red|blue|green|black|white|silver|yellow|purple|orange|pink"), "in {v}|colored {v}|in the color {v}", ()),
    ("size", "string", "The size", _pick("S|M|L|XL|small|medium|large"), "in size {v}|of size {v}|size {v}", ("M",)),
    ("in_stock", "boolean", "Whether it must be in stock", lambda rng: rng.random() < 0.6, "", (True,)),
    ("recipient", "string", "The address of the recipient", _email, "to {v}|addressed to {v}|for {v}", ()),
    ("cc", "strings", "Addresses in copy", _many(_email, 1, 2), "with copies to {v}|cc {v}|copying {v}", ()),
    ("sender", "string", "The address of the sender", _email, "from {v}|sent by {v}|by {v}", ()),
    ("subject", "string", "The subject", _title, "about {v}|with subject {v}|on the subject {v}", ()),
    ("body", "string", "The body of the message", _phrase, "saying {v}|with the text {v}|that reads {v}", ()),
    ("unread", "boolean", "Whether only unread items count", lambda rng: rng.random() < 0.6, "", (True,)),
    ("priority", "string", "The priority", _pick("low|normal|high|urgent|critical"), "with {v} priority|at priority {v}|marked {v}", ("normal",)),
    ("attendees", "strings", "Who takes part", _many(_pick("|".join(PEOPLE)), 2, 4), "with {v}|inviting {v}|for the attendees {v}", ()),
    ("location", "string", "The place", _pick("Room A|Room 12|the main hall|Building 4|the rooftop|Cafe Nero|Studio 3|the library"), "in {v}|at {v}|located in {v}", ()),
    ("room", "string", "The room", _pick("kitchen|bedroom|bathroom|garage|living room|office|hallway|basement|attic|nursery"), "in the {v}|for the {v}|of the {v}", ("kitchen",)),
    ("temperature", "number", "The temperature in degrees", _decimal(10, 35, 1), "at {v} degrees|set to {v} degrees|with a temperature of {v}", ()),
    ("brightness", "integer", "The brightness in percent", _whole(1, 100), "at {v} percent|with brightness {v}|dimmed to {v}", (80,)),
    ("mode", "string", "The mode", _pick("eco|auto|manual|away|night|boost|silent|party"), "in {v} mode|on {v}|using {v} mode", ("auto",)),
    ("enabled", "boolean", "Whether it is on", lambda rng: rng.random() < 0.6, "", (True,)),
    ("ip_address", "string", "The IP address", _ip, "for {v}|of {v}|of the address {v}", ()),
    ("domain", "string", "The domain name", _domain, "for {v}|of {v}|for the domain {v}", ()),
    ("host", "string", "The host", _domain, "on {v}|on the host {v}|at {v}", ("localhost",)),
    ("port", "integer", "The port", _whole(20, 65000), "on port {v}|at port {v}|using port {v}", (443,)),
    ("timeout", "integer", "The timeout in seconds", _whole(1, 120), "with a timeout of {v}|within {v} seconds|waiting {v} seconds", (30,)),
    ("verbose", "boolean", "Whether to give details", lambda rng: rng.random() < 0.6, "", (False,)),
    ("protocol", "string", "The protocol", _pick("http|https|tcp|udp|ftp|ssh|icmp"), "over {v}|using {v}|with protocol {v}", ("https",)),
    ("repository", "string", "The repository", lambda rng: f"{rng.choice(WORDS)}/{rng.choice(WORDS)}", "in {v}|of the repository {v}|for {v}", ()),
    ("branch", "string", "The branch", lambda rng: rng.choice(("main", "develop", "release", "staging", f"feature-{rng.choice(WORDS)}")), "on branch {v}|on {v}|for the branch {v}", ("main",)),
    ("version", "string", "The version", lambda rng: f"{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}", "at version {v}|of version {v}|version {v}", ("latest",)),
    ("label", "string", "The label", _pick("bug|feature|docs|wontfix|urgent|help wanted|good first issue"), "labeled {v}|with label {v}|under {v}", ()),
    ("labels", "strings", "The labels", _many(_pick("bug|feature|docs|wontfix|urgent|test|design|ops"), 2, 3), "labeled {v}|with labels {v}", ()),
    ("message", "string", "The message", _phrase, "with message {v}|saying {v}|with the message {v}", ()),
    ("status", "string", "The status", _pick("open|closed|merged|pending|failed|active|archived"), "that is {v}|with status {v}|in status {v}", ("open",)),
    ("username", "string", "The user name", _handle, "of {v}|for {v}|for the user {v}|by {v}", ()),
    ("hashtag", "string", "The hashtag", lambda rng: f"#{rng.choice(WORDS)}", "with {v}|under {v}|tagged {v}", ()),
    ("platform", "string", "The platform", _pick("Twitter|Instagram|TikTok|YouTube|Reddit|Steam|PC|Xbox|PlayStation|Switch|Android|iOS"), "on {v}|for {v}|from {v}", ("PC",)),
    ("include_replies", "boolean", "Whether replies count", lambda rng: rng.random() < 0.6, "", (False,)),
    ("job_title", "string", "The title of the job", _pick("data scientist|nurse|teacher|software engineer|accountant|designer|chef|plumber|pilot|lawyer|product manager"), "for a {v}|as a {v}|for the position {v}", ()),
    ("company", "string", "The company", _pick("Acme|Globex|Initech|Umbrella|Contoso|Hooli|Wonka|Stark Industries|Northwind|Soylent"), "at {v}|from {v}|with the company {v}", ()),
    ("min_salary", "integer", "The lowest salary", _whole(20000, 200000), "paying at least {v}|above {v}|with a salary over {v}", ()),
    ("experience", "integer", "Years of experience", _whole(0, 25), "with {v} years of experience|needing {v} years|at {v} years of experience", ()),
    ("skills", "strings", "The skills", _many(_pick("python|sql|excel|java|welding|cooking|design|sales|writing|statistics"), 2, 3), "with skills {v}|knowing {v}|skilled in {v}", ()),
    ("remote", "boolean", "Whether remote work counts", lambda rng: rng.random() < 0.6, "", (False,)),
    ("department", "string", "The department", _pick("sales|marketing|finance|legal|engineering|support|research|logistics"), "in {v}|in the {v} department|from {v}", ()),
    ("camera", "string", "The camera", _pick("FHAZ|RHAZ|MAST|NAVCAM|CHEMCAM|front|rear"), "from camera {v}|taken by {v}|with the {v} camera", ()),
    ("object_name", "string", "The name of the object", _pick("Ceres|Vesta|Halley|Apophis|Bennu|Titan|Europa|Io|Andromeda|Orion|Sirius|Vega"), "of {v}|for {v}|for the object {v}", ()),
    ("min_magnitude", "number", "The lowest magnitude", _decimal(0.5, 9, 1), "above magnitude {v}|of at least {v}|stronger than {v}", ()),
    ("fuel_type", "string", "The kind of fuel", _pick("diesel|petrol|electric|hybrid|hydrogen|gas"), "for {v}|of type {v}|running on {v}", ()),
    ("plate", "string", "The license plate", _code, "with plate {v}|for plate {v}|plated {v}", ()),
    ("avoid_tolls", "boolean", "Whether to avoid tolls", lambda rng: rng.random() < 0.6, "", (False,)),
    ("game", "string", "The game", _pick("Chess|Tetris|Minecraft|Doom|Zelda|Pong|Fortnite|Portal|Halo|Sonic"), "in {v}|of {v}|for the game {v}", ()),
    ("difficulty", "string", "The difficulty", _pick("easy|medium|hard|expert|beginner"), "at {v} difficulty|that is {v}|on {v}", ("medium",)),
    ("sides", "integer", "The number of sides", _whole(4, 100), "with {v} sides|{v} sided|having {v} sides", (6,)),
    ("region", "string", "The region", _pick("EU|NA|Asia|Africa|Oceania|Europe|north|south|alpine|coastal"), "in {v}|for the region {v}|from {v}", ("EU",)),
    ("file_path", "string", "The path of the file", _path, "at {v}|from {v}|in {v}|for the file {v}", ()),
    ("table", "string", "The table", lambda rng: f"{rng.choice(WORDS)}_{rng.choice(('log', 'list', 'items', 'stats'))}", "in table {v}|from {v}|of the table {v}", ()),
    ("columns", "strings", "The columns", _many(_WORD, 2, 3), "with columns {v}|for the columns {v}|using {v}", ()),
    ("filters", "mapping", "Values by field", _mapping, "where {v}|with filters {v}|filtered by {v}", ()),
    ("encoding", "string", "The encoding", _pick("utf-8|ascii|latin-1|utf-16|base64"), "in {v}|encoded as {v}|with {v} encoding", ("utf-8",)),
    ("overwrite", "boolean", "Whether to replace what exists", lambda rng: rng.random() < 0.6, "", (False,)),
    ("species", "string", "The species", _pick("oak|maple|pine|owl|robin|salmon|trout|bee|moth|orca|lynx|otter|fern|orchid"), "of {v}|for {v}|for the species {v}", ()),
)  # fmt: skip

PARAMETERS: dict[str, Parameter] = {
    name: Parameter(
        name, kind, description, value, tuple(filter(None, mentions.split("|"))), defaults
    )
    for name, kind, description, value, mentions, defaults in _TABLE
}
