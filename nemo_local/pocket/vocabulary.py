"""The words of the pocket world: domains with their nouns and parameters, verbs, and how people ask."""

# domain -> (nouns, parameter names that tools about these nouns may take)
DOMAINS: dict[str, tuple[str, str]] = {
    "weather": (
        "weather forecast|air quality|uv index|storm alert|rainfall history|wind speed|tide table|"
        "sunrise time|snow report|pollen count|humidity level|lightning map|heat warning",
        "city country date days units latitude longitude hourly language"),
    "finance": (
        "stock price|exchange rate|dividend history|earnings report|market summary|bond yield|"
        "crypto price|balance sheet|stock split|insider trade|option chain|price target|etf holdings",
        "symbol symbols currency start_date end_date interval exchange limit threshold"),
    "banking": (
        "account balance|bank transfer|loan payment|interest rate|credit score|mortgage plan|"
        "savings goal|overdraft limit|card transaction|direct debit|tax estimate|pension fund",
        "account_id amount currency date years rate principal memo recurring"),
    "travel": (
        "flight status|hotel room|train ticket|car rental|travel visa|airport lounge|boarding pass|"
        "cruise cabin|bus route|travel insurance|seat map|luggage claim|city tour|ferry schedule",
        "origin destination date return_date passengers travel_class city nights airline budget"),
    "sports": (
        "match score|league standing|player profile|team roster|race result|tournament bracket|"
        "transfer rumor|injury list|fixture list|season schedule|coach history|lap time|medal table",
        "team player league season round_number date country limit"),
    "food": (
        "recipe|restaurant menu|nutrition fact|meal plan|grocery list|wine pairing|cooking tip|"
        "food recall|cafe rating|ingredient substitute|diet report|delivery order|brewery",
        "ingredient ingredients cuisine diet servings calories city max_price sort_by"),
    "music": (
        "song lyrics|album review|playlist|artist biography|concert date|radio station|chord chart|"
        "podcast episode|music video|guitar tab|record label|sound effect",
        "artist title genre year limit country duration explicit"),
    "film": (
        "movie review|box office|film trailer|tv episode|actor credit|cinema showtime|subtitle file|"
        "streaming offer|film award|movie quote|anime series|screenplay",
        "title year genre language director page limit city rating"),
    "books": (
        "book summary|author page|library loan|reading list|book price|audiobook chapter|isbn record|"
        "publisher catalog|poetry line|citation count|manuscript draft",
        "title author isbn genre year language limit page format"),
    "health": (
        "heart rate|blood pressure|sleep score|drug interaction|symptom checklist|clinic appointment|"
        "vaccine record|workout plan|body mass|calorie burn|allergy test|step count|therapy session",
        "patient_id age weight height date gender duration dose notes"),
    "mathematics": (
        "prime factor|matrix determinant|standard deviation|triangle area|circle perimeter|"
        "linear regression|fibonacci number|common divisor|moving average|square root|"
        "compound interest|vector product|permutation count|polynomial root|histogram|median",
        "numbers values n x y radius matrix precision weights base point"),
    "text": (
        "text sentiment|word count|spelling error|text translation|keyword list|language code|"
        "text summary|palindrome|anagram|reading level|plagiarism report|rhyme|regex match",
        "text language target_language words max_length case_sensitive pattern"),
    "geography": (
        "postal code|time zone|elevation|driving distance|public holiday|population count|"
        "country capital|map tile|border crossing|river length|place name|walking route|earthquake log",
        "country city latitude longitude radius coordinates units year language"),
    "shopping": (
        "product price|shopping cart|discount code|product review|warehouse stock|gift card|"
        "order status|return label|wish list|price alert|seller rating|size chart|flash sale",
        "product_id product quantity max_price min_price category color size sort_by in_stock"),
    "email": (
        "email message|contact list|mailing list|inbox folder|email draft|spam filter|"
        "email signature|newsletter|attachment|auto reply",
        "recipient subject body cc sender date limit unread priority"),
    "calendar": (
        "calendar event|meeting invite|reminder|time slot|birthday list|task deadline|shift rota|"
        "timer|alarm|conference room|project milestone|vacation request",
        "title date time duration attendees location priority recurring notes"),
    "home": (
        "room temperature|light scene|door lock|energy usage|security camera|thermostat schedule|"
        "vacuum robot|water leak|garage door|solar output|smoke detector|sprinkler zone",
        "room device_id temperature brightness mode enabled time days"),
    "network": (
        "ip address|domain record|ssl certificate|server uptime|port scan|download speed|"
        "dns lookup|network route|proxy list|firewall rule|bandwidth usage|wifi password",
        "ip_address domain port timeout verbose protocol count host"),
    "code": (
        "pull request|build log|code review|unit test|git branch|package version|commit history|"
        "bug report|deploy status|merge conflict|release note|issue label|container image",
        "repository branch version author status limit label labels message"),
    "social": (
        "user profile|follower count|trending topic|post comment|direct message|story view|"
        "friend request|video like|hashtag|group member|live stream|poll vote",
        "username user_id limit hashtag platform text start_date include_replies page"),
    "jobs": (
        "job listing|salary range|job application|interview slot|company profile|employee record|"
        "resume score|skill gap|payroll slip|office seat|referral bonus",
        "job_title company city min_salary experience skills remote employee_id department"),
    "space": (
        "asteroid orbit|mars photo|satellite pass|launch schedule|moon phase|star chart|"
        "solar flare|galaxy image|meteor shower|space mission|comet path",
        "date start_date latitude longitude camera count object_name min_magnitude"),
    "transport": (
        "bus arrival|traffic jam|parking spot|fuel price|bike station|ride fare|toll cost|"
        "charging point|vehicle history|license plate|train delay|driver rating|speed camera",
        "origin destination city radius fuel_type vehicle_id plate time avoid_tolls limit"),
    "games": (
        "game giveaway|player rank|chess puzzle|dice roll|match history|leaderboard|achievement|"
        "game server|trivia question|card deck|crossword clue|loot box|speedrun",
        "username game difficulty category count sides platform region limit"),
    "data": (
        "csv file|database table|json document|chart image|data backup|search index|api key|"
        "log entry|pivot table|survey answer|query plan|file checksum|qr code|color palette|barcode",
        "file_path table columns format limit filters encoding size overwrite"),
    "nature": (
        "bird sighting|plant disease|tree species|whale track|insect photo|forest fire|coral reef|"
        "seed catalog|soil sample|fish quota|national park|hiking trail|dog breed|cat fact",
        "species region date latitude longitude count month difficulty"),
}  # fmt: skip

# What some nouns are also called in a request; the tool keeps the noun of the list above.
ALIASES: dict[str, str] = {
    "weather forecast": "weather", "stock price": "share price", "exchange rate": "conversion rate",
    "crypto price": "coin price", "hotel room": "room at a hotel", "train ticket": "rail ticket",
    "match score": "score of the match", "movie review": "film review", "song lyrics": "lyrics",
    "driving distance": "distance by car", "public holiday": "bank holiday", "time zone": "timezone",
    "email message": "email", "calendar event": "event", "room temperature": "temperature",
    "ip address": "ip", "pull request": "pr", "user profile": "profile", "job listing": "job",
    "text translation": "translation", "word count": "number of words", "text summary": "summary",
    "prime factor": "prime factors", "game giveaway": "giveaway", "parking spot": "parking place",
    "shopping cart": "cart", "account balance": "balance", "product price": "price",
    "restaurant menu": "menu", "sleep score": "sleep quality", "hiking trail": "hike",
    "standard deviation": "spread", "common divisor": "greatest common divisor",
}  # fmt: skip

# verb of the tool -> (how it is described, how people ask for it). `{n}` is the noun phrase.
VERBS: dict[str, tuple[str, str]] = {
    "get": ("Gets the {n}|Returns the {n}|Retrieves the {n}", ""),
    "fetch": ("Fetches the {n}|Retrieves the current {n}", ""),
    "retrieve": ("Retrieves the {n}|Returns the {n} data", ""),
    "show": ("Shows the {n}|Displays the {n}", ""),
    "find": ("Finds the {n}|Finds a matching {n}", "find the {n}|look for the {n}|help me find the {n}"),
    "search": ("Searches for the {n}|Searches every {n}",
               "search for the {n}|search every {n}|run a search on the {n}"),
    "list": ("Lists each {n}|Lists every available {n}",
             "list every {n}|list the {n} entries|give me a list of each {n}"),
    "check": ("Checks the {n}|Checks whether the {n} is valid",
              "check the {n}|can you check the {n}|verify the {n}"),
    "count": ("Counts the {n} entries|Returns how many {n} entries exist",
              "count the {n} entries|how many {n} entries are there|tell me the number of {n} entries"),
    "compare": ("Compares the {n}|Compares one {n} with another",
                "compare the {n}|do a comparison of the {n}|put the {n} side by side"),
    "create": ("Creates a new {n}|Makes a {n}", "create a {n}|make a new {n}|set up a {n}"),
    "add": ("Adds a {n}|Adds one {n}", "add a {n}|put in a new {n}|include a new {n}"),
    "update": ("Updates the {n}|Changes an existing {n}",
               "update the {n}|change the {n}|modify the existing {n}|edit the {n}"),
    "delete": ("Deletes the {n}|Removes an existing {n}",
               "delete the {n}|get rid of the {n}|erase the {n}"),
    "remove": ("Removes the {n}|Takes away one {n}", "remove the {n}|take out the {n}|drop the {n}"),
    "cancel": ("Cancels the {n}|Cancels an open {n}",
               "cancel the {n}|call off the {n}|I no longer want the {n}, cancel it"),
    "book": ("Books a {n}|Reserves a {n}", "book a {n}|reserve a {n}|make a booking for a {n}"),
    "schedule": ("Schedules a {n}|Plans a {n}", "schedule a {n}|plan a {n}|arrange a {n}"),
    "send": ("Sends a {n}|Sends the {n}", "send a {n}|send out the {n}|deliver the {n}"),
    "share": ("Shares the {n}|Shares a {n} with others", "share the {n}|pass on the {n}"),
    "download": ("Downloads the {n}|Saves the {n} to disk",
                 "download the {n}|save a copy of the {n}|get me a download of the {n}"),
    "upload": ("Uploads a {n}|Stores a {n} on the server", "upload a {n}|upload the {n}|push the {n}"),
    "calculate": ("Calculates the {n}|Computes the {n}",
                  "calculate the {n}|compute the {n}|work out the {n}"),
    "estimate": ("Estimates the {n}|Gives a rough {n}",
                 "estimate the {n}|give me a rough {n}|approximately what is the {n}"),
    "predict": ("Predicts the {n}|Forecasts the future {n}",
                "predict the {n}|forecast the future {n}|what will the {n} be"),
    "convert": ("Converts the {n}|Transforms the {n}", "convert the {n}|transform the {n}"),
    "validate": ("Validates the {n}|Tests if the {n} is valid",
                 "validate the {n}|is the {n} valid|make sure the {n} is valid"),
    "analyze": ("Analyzes the {n}|Runs an analysis of the {n}",
                "analyze the {n}|run an analysis of the {n}|do an analysis on the {n}"),
    "generate": ("Generates a {n}|Produces a random {n}",
                 "generate a {n}|produce a {n}|come up with a {n}"),
    "track": ("Tracks the {n}|Follows the {n} over time",
              "track the {n}|keep track of the {n}|follow the {n}"),
    "monitor": ("Monitors the {n}|Watches the {n}", "monitor the {n}|watch the {n}|keep an eye on the {n}"),
    "rate": ("Rates the {n}|Gives a score to the {n}", "rate the {n}|give a score to the {n}"),
    "sort": ("Sorts each {n}|Puts the {n} entries in order",
             "sort the {n} entries|put the {n} entries in order|order the {n} entries"),
    "filter": ("Filters the {n} entries|Keeps only matching {n} entries",
               "filter the {n} entries|narrow down the {n} entries"),
    "export": ("Exports the {n}|Writes the {n} to a file", "export the {n}|write the {n} to a file"),
    "import": ("Imports a {n}|Reads a {n} from a file", "import a {n}|load a {n} from a file"),
    "reset": ("Resets the {n}|Restores the {n} to its default",
              "reset the {n}|restore the {n} to its default|start the {n} over"),
    "lock": ("Locks the {n}|Prevents changes to the {n}", "lock the {n}|block changes to the {n}"),
    "recommend": ("Recommends a {n}|Suggests a suitable {n}",
                  "recommend a {n}|suggest a {n}|which {n} would you recommend"),
    "explain": ("Explains the {n}|Describes the {n} in detail",
                "explain the {n}|describe the {n} in detail|help me understand the {n}"),
}  # fmt: skip

# Requests for the reading verbs (get, fetch, retrieve, show), whose wording says little.
READ_REQUESTS = (
    "what is the {n}|what's the {n}|show me the {n}|get the {n}|fetch the {n}|retrieve the {n}|"
    "tell me the {n}|give me the {n}|I need the {n}|I'd like the {n}|look up the {n}|"
    "can you get me the {n}|could you fetch the {n}|I want to see the {n}|let me see the {n}|"
    "pull up the {n}|I want to know the {n}|please provide the {n}|do you have the {n}|"
    "can you tell me the {n}|I am looking for the {n}|display the {n}|I would like to know the {n}"
).split("|")

OPENINGS = (
    "Hi, |Hello, |Hey, |Please |Could you please |Can you |Could you |I need you to |I want you to |"
    "For my report, |For a project, |Quick one: |Help me: |Would you |My boss asked me to |Kindly |"
    "As a test, |Now |Next, |Today I have to |For a client, |I'd like you to |Let's "
).split("|")
CONTEXTS = (
    "I'm planning something for next week. |I am preparing a presentation. |We are comparing options. |"
    "My friend asked me about this. |I am working on a new project. |This is for a school assignment. |"
    "I'm writing an article. |We have a customer waiting. |I have a meeting soon. |"
    "I am curious about something. |Our team needs this by tonight. |I just moved here. "
).split("|")
CLOSINGS = ". |? |, please. |. Thanks! |, thank you. |!|. It is urgent. |. Let me know.".split("|")

CITIES = (
    "Paris|London|Berlin|Tokyo|Madrid|Rome|New York|Chicago|Toronto|Sydney|Mumbai|Cairo|Lagos|Nairobi|"
    "Oslo|Vienna|Prague|Lisbon|Dublin|Seattle|Boston|Denver|Miami|San Francisco|Los Angeles|Seoul|"
    "Bangkok|Singapore|Hong Kong|Istanbul|Athens|Warsaw|Helsinki|Zurich|Amsterdam|Brussels|Montreal|"
    "Mexico City|Lima|Bogota|Austin|Dallas|Houston|Kyoto|Osaka|Beijing|Delhi|Dubai|Cape Town|Auckland"
).split("|")
COUNTRIES = (
    "France|Germany|Japan|Spain|Italy|Canada|Australia|India|Egypt|Nigeria|Kenya|Norway|Austria|Portugal|"
    "Ireland|Brazil|Mexico|Peru|Chile|Turkey|Greece|Poland|Finland|Sweden|Denmark|China|Thailand|US|UK|DE"
).split("|")
PEOPLE = (
    "Alice|Omar|Maria|Chen|Fatima|Lucas|Nina|David|Sofia|Ivan|Grace|Hugo|Leila|Marco|Priya|Tom|Emma|Noah|"
    "Olivia|Liam|Zoe|Ali|Sara|Ben|Clara|Diego|Eva|Felix|Hana|Jonas"
).split("|")
SURNAMES = (
    "Smith|Garcia|Mueller|Tanaka|Okafor|Rossi|Kim|Silva|Novak|Brown|Jones|Lopez|Khan|Singh|Wang|Martin|"
    "Dubois|Larsen|Costa|Haddad|Murphy|Adams|Baker|Clark"
).split("|")
WORDS = (
    "red|blue|green|black|white|silver|gold|small|large|medium|fast|slow|cheap|modern|classic|wireless|"
    "solar|digital|garden|kitchen|office|winter|summer|spring|autumn|morning|evening|river|mountain|ocean|"
    "forest|desert|island|bridge|castle|museum|market|school|hospital|laptop|phone|camera|printer|keyboard|"
    "monitor|speaker|headphones|jacket|shoes|watch|bicycle|guitar|piano|violin|drums|coffee|tea|chicken|"
    "beef|rice|pasta|tomato|garlic|onion|cheese|apple|banana|orange|lemon|chocolate|honey|salmon|tofu|"
    "tiger|eagle|dolphin|panda|wolf|horse|rabbit|turtle|robot|rocket|planet|comet|signal|shadow|dream|"
    "secret|journey|storm|fire|ice|moon|star|sun|cloud|stone|crystal|dragon|wizard|knight|queen|king|"
    "history|science|physics|biology|travel|fashion|politics|climate|energy|security|privacy|education"
).split("|")
