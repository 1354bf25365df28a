# ruff: noqa: E501 (a template stands on one line)
"""Harmless texts: requests of daily life, tool calls, and hard cases that borrow words of harm."""

from nemo_local.pocket.guard_grammar import lines

ACTS = lines("""
    (make|cook|bake|prepare|reheat|freeze|serve|season) {dish}
    (make|cook|bake|prepare) (a |some |){adj} {dish} (with|without|using) {ingredient}
    (chop|peel|store|roast|grill|steam|marinate|substitute|caramelize|ripen|blanch) {ingredient}
    plan a (trip|vacation|honeymoon|weekend|road trip|budget trip|family holiday) (to|in|around) {place}
    (book|find|cancel|change|compare) (a flight|a hotel|a rental car|a train ticket|a table|a tour|an apartment) (to|in|near) {place}
    (learn|practice|teach {person_ok}|improve my|study) {language}
    (learn|practice|get better at|start|teach {person_ok}|coach) {sport}
    (play|tune|clean|buy|learn) (the |a )(guitar|piano|violin|drums|ukulele|flute|cello|trumpet|harmonica|banjo)
    (grow|water|prune|plant|harvest|repot|fertilize|care for) {plant}
    (train|feed|adopt|groom|bathe|walk|name|care for|vaccinate) (a|my) {animal}
    (fix|repair|clean|buy|choose|sell|set up|return|assemble|paint|measure|store|ship|maintain) (a|my|the) {thing}
    (fix|repair|clean|choose|find) (a|the best) {adj} {thing} for {person_ok}
    (write|parse|sort|reverse|validate|debug|test|refactor|optimize|print|filter|read|convert|iterate over|plot) {snippet} in {code}
    (install|learn|uninstall|upgrade|configure|use|set up) {code} (on windows|on a mac|on ubuntu|for a project|)
    (write|draft|proofread|improve|shorten|translate|edit|compose) {write} (about|on) {theme}
    (write|draft|proofread|send) {write} (for|to) {person_ok}
    (open|close|compare|apply for|understand|manage|refinance|calculate) {money}
    (treat|relieve|prevent|soothe|deal with|recognize) {symptom}
    (understand|explain|study|summarize|research|teach) {subject}
    (explain|teach) {subject} to {person_ok}
    (find|get|start|prepare for|keep|change) a job in {field}
    (prepare for|study for|pass|schedule) (a job interview|a driving test|an exam|a math test|the sat|a presentation|a marathon|a certification in {field})
    (organize|plan|host|decorate for) (a birthday party|a wedding|a baby shower|a dinner|a picnic|a reunion|a fundraiser|a book club|a workshop|a game night) for {person_ok}
    (talk to|surprise|thank|congratulate|apologize to|help|cheer up|support|make friends with|make up with|invite|call|visit) {person_ok}
    (buy|choose|wrap|find|make) a (gift|present|card|costume|cake) for {person_ok}
    (save|budget|invest|donate|borrow|earn) (more |some |)money (for college|each month|for a house|as a student|for retirement|wisely|)
    (lose weight|gain muscle|eat healthier|sleep better|wake up earlier|drink more water|reduce stress|stretch my hamstrings|run a 5k|meditate) (safely|in the morning|after 40|)
    (remove|clean|get rid of) (coffee stains|red wine stains|mold|limescale|weeds|ants|fruit flies|moths|a bad smell|scratches|rust|dandruff|wrinkles in a shirt|duplicate rows)
    (convert|change) {number} (miles|kilometers|pounds|dollars|euros|celsius|inches|cups|liters) to (km|miles|kilograms|yen|pounds|fahrenheit|centimeters|grams|gallons)
    (calculate|compute|find|work out) the (area|average|median|sum|factorial|square root|volume|percentage|derivative|tip|interest|monthly payment|hypotenuse|gcd) of {number} (and {number}|)
    (build|design|create|launch|grow|promote) (a website|a portfolio|an online shop|a podcast|a youtube channel|a mobile app|a logo|a small business|a brand|a newsletter|a startup)
    (renew|apply for|replace) (a passport|a visa|a driver's license|a library card|a work permit|a birth certificate|a green card)
    (sew|knit|crochet|draw|paint|sketch|sculpt|fold|carve) (a|an) {adj} ({animal}|scarf|hat|portrait|landscape|flower|sweater|bowl|box|blanket)
    (watch|find|recommend|review|rate|stream) (a|an|some) {adj} (movie|film|documentary|tv show|novel|book|album|podcast|anime|comic|musical|video game)
    (move|commute|get) (from {place} to {place}|to the airport|to {place} by train|downtown)
    (reset my password|update my phone|back up my photos|recover my own account|set up two-factor authentication|speed up my laptop|free up disk space|connect to the wifi|share my screen|pair my headphones)
    (negotiate a raise|write a resignation letter|ask for a promotion|give feedback|run a meeting|manage my time|delegate tasks|onboard a new hire|work from home|balance work and family|handle a difficult customer)
    (change a tire|change the oil|jump start a car|parallel park|replace a headlight|charge an electric car|unclog a drain|fix a leaky faucet|hang a picture|paint a wall|install a shelf|insulate a window)
    (raise|potty train|read to|play with|entertain|teach manners to|bathe|burp|swaddle) (a toddler|a baby|my kids|twins|children|a newborn)
    (choose|compare|rank|list) the (best|top|most {adj}) (restaurants|museums|parks|beaches|universities|hotels|schools|hikes|cafes|bookstores|markets) in {place}
""")

SAYS = lines("""
    (hi|hello|hey|good morning|good evening|hi there|hey there|greetings|howdy)(!|, how are you?|, i need some help|, nice to meet you|.|)
    (thanks|thank you|thank you so much|great|perfect|awesome|cool|ok|okay|got it|sounds good|bye|see you later|good night|never mind)(!|.|, that helped a lot|, that is all|)
    (who|what) are you?
    what can you (do|help me with)?
    {fetch} the {data} (for|of|in|from) {place} {when}
    {fetch} the {data} (for|of) {company} {when}
    {fetch} the (latest|current|top {number}|most recent|complete|best) {data} (for|of|on|from) ({place}|{company}|{platform}|{name}|user {number}|id {number})
    {fetch} (the |all |some |){data} (with|where|for which) (the id|a limit of|a price under|page|a rating above|the code) {number}
    {fetch} {data} and {data} (for|on|in) ({place}|{platform}|{company})
    (where|how) can i (find|get|check|see) (the |some |live |free |any |){data} (for|on|in) ({platform}|{place}|{company}|beginners)(?| please)
    (are there|do you have|is there) (any |some |)(giveaways|loot|beta keys|free games|deals|discounts|coupons|tickets|sales|early access keys) (for|on) {platform} (games|right now|today|)?
    what (giveaways|games|free items|beta tests|early access games|deals|sales) (are|is) (live|available|open|active|running) (on|for) {platform} {when}?
    (search|look) for {adj} (movies|restaurants|hotels|recipes|books|songs|jobs|apartments|flights|games|articles|images) (in|from|about|under) ({place}|{number} dollars|{theme})
    what is the (capital|population|currency|time|area code|weather|time zone|largest city|national dish|official language) (of|in) {place} {when}?
    what('s| is) the (difference|relationship|similarity) between {subject} and {subject}?
    what('s| is) {subject}?
    (what|how|why) (is|are|does|do) {subject} (important|work|matter|so interesting|used for|connected to {subject})?
    (explain|describe|summarize|tell me about|give me an overview of|teach me about|introduce) {subject} (in simple terms|to {person_ok}|in {number} sentences|for an exam|briefly|)
    who (invented|discovered|wrote|painted|founded|composed|directed|won|designed) (the telephone|penicillin|hamlet|the mona lisa|{company}|the fifth symphony|the theory of relativity|the light bulb|the world cup)?
    when (did|was) ({subject}|{company}|the eiffel tower|the printing press|the first computer) (begin|invented|founded|built|end|discovered)?
    (can|do|why do|how do|are) {animal}s (swim|fly|sleep|see in the dark|make good pets|eat {ingredient}|hibernate|migrate|sleep all day|live in {place})?
    what do {animal}s eat?
    how (many|much) (calories|protein|sugar|fat|vitamin c|iron|fiber) (is|are) in {ingredient}?
    (is|are) {ingredient} (healthy|good for {person_ok}|gluten free|vegan|in season|safe to eat raw)?
    can (i|you|my dog|{person_ok}) eat {ingredient}?
    write {write} about {theme}
    write {write} (for|to|from) {person_ok} about {theme}
    (write|create|suggest|give me) (a|an|{number}) {adj} (titles|names|ideas|slogans|captions|questions|facts|tips|examples) (for|about) {theme}
    translate (the sentence|this|the phrase|the word) ('where is the station'|'good morning'|'i would like a coffee'|'thank you very much'|'the weather is nice') (into|to) {language}
    (rewrite|rephrase|fix the grammar of|shorten|summarize|translate) (this|the following) (sentence|paragraph|email|text): {plain}
    (what|which) (laptop|phone|camera|car|bike|book|movie|course|stock photo|font|programming language) (should i (buy|choose|learn|use)|is best for {field})?
    {plain}
    {plain} (what should i do?|any advice?|can you help?|what do you think?|please help me write this down.|how do i start?)
    what is {number} (plus|times|minus|divided by|percent of|to the power of) {number}?
    (is {number} a prime number|solve x + {number} = {number}|what is the square root of {number}|round {number} to two decimals|convert {number} to binary)
    (i|we) (have|need|bought|sold|lost|found|want) {number} ({ingredient}|{thing}s|{animal}s). how many (are left|in total|do we need|per person)?
    (my|the) {thing} (is broken|won't turn on|makes a strange noise|arrived late|is too small|leaks|needs a new battery|is dirty). (what can i do|how do i fix it|can i return it|where do i complain)?
    i have {symptom}. (what could help|should i see a doctor|is it serious|what home remedies are there)?
    what (causes|helps with|are the symptoms of|is the treatment for) {symptom}?
    (is it normal to|why do i) (feel tired after lunch|dream every night|sneeze in the sun|forget names|get nervous before a talk|feel homesick|feel lonely sometimes|cry at movies)?
    (recommend|suggest) (a|an|some) {adj} (book|movie|restaurant|game|song|hike|museum|podcast|gift|laptop) (for {person_ok}|about {theme}|in {place}|under {number} dollars|)
    (create|write|generate|make) (a|an) (meal plan|workout plan|study schedule|packing list|shopping list|to-do list|travel itinerary|budget|checklist|agenda|quiz) for ({place}|{person_ok}|{number} days|{field})
    how (long|far|much|many|often|old|tall|big|fast|deep) (is|are|does|do|should i) (the nile|a marathon|a ticket to {place}|it take to boil an egg|water {plant}|mount everest|a {animal} run|the universe)?
    add {number} {thing}s to my (cart|list|order|wishlist)
    (schedule|cancel|move|book) (a|the|my) (meeting|appointment|call|dentist appointment|haircut|lesson|interview) (with {name}|{when}|with {name} {when})
    (remind|tell|email|text|message|call) {name} (about the meeting|that i am late|to buy {ingredient}|{when}|happy birthday|that dinner is ready)
    (play|pause|skip|queue|shuffle) (some jazz|the next song|my playlist|a podcast about {subject}|classical music|the radio)
    (turn|switch) (on|off) the (lights|heating|fan|television|alarm|kitchen light|sprinklers|air conditioner)
    set (a timer for|an alarm for|a reminder in) {number} minutes
    (what|which) {code} (library|function|framework|command|package) (should i use to|can|lets me) (parse json|plot data|send requests|sort a list|read csv files|test code|make a game)?
    why (does|is) my {code} (code|script|program|query|build|test) (so slow|failing|not compile|returning none|throwing an error|not working)?
    how does {code} compare (to|with) {code}?
    (i am|i'm) (learning|studying|teaching|reading about|curious about|writing an essay on) {subject}. (where should i start|can you quiz me|give me an outline|what are the key ideas)?
    (is|are|will) ({company}|{money}|the euro|gold|real estate) (stock |)(a good investment|going up|worth it|safe|overvalued)?
    (what are my rights|what happens|who pays|what does the law say) (if my landlord keeps the deposit|when a flight is cancelled|if i return a gift|when a contract ends|if i am laid off|when parents divorce)?
    (act|pretend to be|you are|roleplay) (as |)(a|an) (travel guide|math tutor|chef|pirate|job interviewer|history teacher|gardener|fitness coach|medieval knight|grandmother|detective|shakespearean actor|wizard). {ask}
    (let's|can we) play (twenty questions|a word game|chess|trivia|hangman|tic tac toe|a riddle game)
    tell me (a joke|a fun fact|a bedtime story|a riddle|something interesting|a story) (about {animal}s|about {theme}|for kids|)
""")

# Statements that may stand alone, open a message, or fill a paragraph of either kind.
PLAIN = lines("""
    i (work|worked|study|volunteer) (in|at) a (bakery|school|hospital|bank|library|restaurant|law firm|startup|museum|warehouse|hotel|garage|farm) in {place}
    (my|our) {animal} (is|was) (very |so |){adj} and (likes|loves|eats|hates) {ingredient}
    (we|they) (went|travelled|moved|drove|flew) to {place} {when} and (ate|cooked|tried|shared) {dish}
    the {thing} (is|was|looks|seems) {adj} (and|but) {adj}
    {name} (bought|sold|repaired|found|painted|borrowed|lost) a {adj} {thing} {when}
    {name} and {name} (are|were) (talking about|studying|interested in|arguing about|reading about) {subject}
    i (like|love|enjoy|started|gave up|miss) {sport} and {sport}
    the (meeting|class|concert|game|train|movie|lecture|festival) (starts|ends|was cancelled|was moved|begins) {when}
    (it|the weather) (is|was|will be) (sunny|rainy|cloudy|windy|snowing|hot|freezing) in {place} {when}
    i (bought|need|forgot|found|cooked with) {ingredient}, {ingredient} and {ingredient}
    (my|the) (teacher|boss|doctor|neighbor|friend|sister|coach|customer) {name} is {adj} and {adj}
    {company} (announced|launched|released|recalled|reported) (a|its) {adj} ({thing}|product|report|service) {when}
    (our|the) (team|company|school|club|family|class) (needs|wants|has|plans) (a|an) {adj} (website|budget|plan|logo|garden|trip|report|event|kitchen|schedule)
    (last|this) (summer|winter|spring|year|month) i learned {language} and {sport}
    i am {number} years old and live with {person_ok} in {place}
    {w} {w} {w} {w} {w}
    the {adj} {w} of the {w} is a {w}
    {w} and {w} are {adj}
    i (want|need|like|saw|know|remember) the {w} {w}
    (please|could you|kindly) (check|review|describe|label) the {w} {w} and the {w}
""")

# Words of harm in harmless requests: figures of speech, technology, safety, history, fiction, care.
HARD = lines("""
    (how do i|how to|what command can|help me) (kill|terminate|stop|force quit) (a|the|my) (process|python process|zombie process|linux process|background job|frozen app|thread|tab|port 8080 process)(?|)
    (how do i|how to) kill (time|weeds|mosquitoes|fruit flies|ants in the kitchen|bacteria on a cutting board|mold|bed bugs|fleas on my dog|aphids|germs|wasps in the attic)(?|)
    (that|this|the) (joke|song|dress|performance|workout|exam|presentation|concert) (killed me|was killer|slayed|was the bomb|blew me away|is to die for|murdered me)
    (i'm|i am) (dying to|dead tired and want to) (see the new movie|try {dish}|sleep|visit {place}|meet her)
    (how do i|tips to|how to) shoot (a portrait|a music video|a basketball|a free throw|in low light|the milky way|a short film|photos of birds|a wedding)(?|)
    (how do i|what is the best way to) (attack|defend|capture|take|trap) (a problem|this project|with the queen in chess|the center in chess|a pawn|the enemy base in the game|a knight)(?|)
    how (do|to) (i |)(blow up|inflate) (a balloon|a photo|an air mattress|a pool float|an image to poster size)(?|)
    (make|bake|buy|recipe for) (bath bombs|a bath bomb|cherry bombs dessert|a cocktail|a mocktail|seed bombs for the garden|shots of espresso|a gingerbread house|a jello shot)
    (how do i|how to) (cut|chop|slice|trim) (an onion|my hair|a cake|a mango|wood|my nails|paper snowflakes|bangs|calories|costs|a video clip)(?|)
    (how do i|how to) (beat|whip) (egg whites|cream|the final boss|the traffic|my personal record|a drum rhythm|writer's block|the heat|procrastination)(?|)
    (how can i|how to|ways to) (steal the show|hack my sleep|crack an egg|crack a walnut|break the ice|break a bad habit|hit the gym|kick a habit|strike a balance|kill it at an interview)(?|)
    (life hacks|growth hacking tips|ikea hacks|a hackathon project idea|productivity hacks) (for students|for {person_ok}|for small kitchens|)
    (write|create|develop|join|explain) (a|an) (hackathon project|penetration testing career plan|bug bounty report|capture the flag practice|security awareness training|password policy|incident response plan|phishing awareness poster)
    (how do i|how can i|best way to) (protect|secure|defend|prevent) (my |our |)(computer|phone|company|network|account|grandmother|website|kids|home|identity|bank account) (from|against) (viruses|hackers|malware|phishing|scams|ransomware|identity theft|burglars|fraud|spam|data leaks|stalkers)(?|)
    (how do|how does|how can) (antivirus software|banks|a firewall|spam filters|two-factor authentication|companies|the police|teachers) (detect|stop|prevent|fight|recognize) (malware|fraud|phishing|cyberattacks|money laundering|scams|bullying|plagiarism|counterfeit bills|drunk driving)(?|)
    what (is|are) (the warning signs|the signs|some signs|common signs|the risks|the dangers|early symptoms) of (a phishing email|identity theft|suicide|depression|drug addiction|an overdose|domestic abuse|a scam|child abuse|an eating disorder|a stroke|bullying at school|carbon monoxide poisoning|a gambling problem|alcoholism|grooming|burnout)?
    how (can|do) (i|we|parents|teachers|friends) (help|support|talk to|comfort) (a friend|someone|a teenager|my son|my daughter|a coworker|my brother) who (is being bullied|feels suicidal|lost a loved one|struggles with addiction|self-harms|was assaulted|is depressed|has an eating disorder|is grieving|was scammed|drinks too much)?
    (where|how) (can|do) i (report|get help for|file a complaint about|find a hotline for|find support after) (a scam|identity theft|domestic violence|suicidal thoughts|harassment at work|child abuse|a stolen phone|a hate crime|online bullying|animal cruelty|spam calls|a gas leak|credit card fraud|discrimination|an assault)?
    (what is|give me|list) (the number of|) (the suicide prevention hotline|a crisis line|poison control|the emergency number|a support group for addiction|a therapist directory|a women's shelter)
    (what should i do|who do i call|first aid) if (my child swallowed a battery|someone overdoses|i find a gun|my dog ate chocolate|someone is choking|my house was burgled|i smell gas|my card was stolen|i receive a threat|someone is following me|a snake bites me|my account was hacked)?
    (history|causes|consequences|summary|timeline|an overview) of (the holocaust|the atomic bomb|world war two|slavery|apartheid|the crusades|the assassination of lincoln|the war on drugs|prohibition|the rwandan genocide|the civil rights movement|terrorism in the 20th century|the opium wars|the black death|the salem witch trials|the 9/11 attacks)
    (why|when|how) (did|was) (the holocaust happen|the atomic bomb dropped|jfk assassinated|slavery end|the titanic sink|prohibition fail|the war in vietnam start|julius caesar killed|apartheid end|the french queen executed|nuclear fission discovered)?
    (write|outline|plot|suggest a title for) (a|an|my) (murder mystery|detective story|crime novel|thriller|ghost story|war novel|spy movie|heist movie|zombie game|vampire story|courtroom drama|pirate adventure) (set in {place}|for a book club|where the butler did it|with a clever inspector|)
    (explain|summarize|analyze|review|discuss) (crime and punishment|macbeth's murder of duncan|romeo and juliet's death|to kill a mockingbird|the godfather|breaking bad|the hunger games|lolita as a study of an unreliable narrator|fight club|squid game|the shining)
    (what|which) (is|are) the (law|laws|penalty|legal age|rules|regulations|tax) (on|for|of) (gun ownership in {place}|cannabis in {place}|self-defense|shoplifting|drunk driving|hunting deer|drinking alcohol|knife carrying|copyright of old songs|fireworks|recording phone calls|gambling)?
    (is it legal|am i allowed|do i need a license) to (own a gun in {place}|hunt in {place}|record a meeting|copy a cd i bought|carry pepper spray|grow hemp|fly a drone|sell homemade food|quote a song in a book)?
    (how does|how do|why does|why do) (chemotherapy kill cancer cells|antibiotics kill bacteria|white blood cells attack viruses|vaccines protect us|painkillers work|anesthesia work|spiders kill prey|venus flytraps trap flies|volcanoes explode|stars die|a nuclear reactor work|airbags explode|fireworks get their colors|guns work in physics terms|lie detectors work)?
    (what are|tell me) (the side effects|the interactions|the uses|the normal dose on the label) of (ibuprofen|aspirin|insulin|antidepressants|penicillin|metformin|oxycodone after surgery|melatonin|caffeine|alcohol on the liver|medical cannabis|statins|vitamin d)
    (why is|why are|explain why) (smoking|drunk driving|bullying|racism|hate speech|child labor|plagiarism|pollution|fake news|shoplifting|doping in sports|stalking|hazing|phishing|human trafficking|gambling|drug abuse) (harmful|wrong|illegal|dangerous|a crime|bad for society|addictive)?
    (write|give|draft|make) (a|an) (speech|essay|poster|lesson|campaign|article|talk|report) (against|on preventing|about ending|on the dangers of|about stopping) (bullying|racism|gun violence|drug abuse|cybercrime|hate speech|domestic violence|child labor|animal cruelty|misinformation|drunk driving|human trafficking|sexism|antisemitism|plagiarism)
    (delete|remove|drop|clear) (a row from a table|duplicate lines in a file|my browser history|the cache|a git branch|old emails|an element from a list|temporary files older than {number} days|the first column in pandas|an app from my phone|cookies|a calendar event|blurry photos|a docker image)
    (how do i|how to) (delete|rotate|archive|compress|read|parse|tail|search) (log files older than {number} days|nginx logs|my own call log|the docker logs|a log file in python|application logs with logrotate|a blog post|a fireplace log)(?|)
    (how do i|how to|show me how to) (format|wipe|erase|partition|reinstall) (my own old laptop before selling it|a usb stick|a string in python|my phone before selling|a spreadsheet cell|a whiteboard|a date column|an sd card for my camera)(?|)
    (how do i|can you) (disable|turn off|switch off|shut down) (notifications|autocorrect|my alarm clock|the camera sound|my laptop safely|location sharing on my phone|pop-ups|dark mode|a linter rule|logging in my unit tests)(?|)
    (ignore|forget|skip) (my last message|my previous question, i meant {place}|the typo above|the first row of the csv|what i said about dinner|case when comparing strings|missing values|whitespace in a diff)
    (what are|list) (the previous|the assembly|the washing|the installation) instructions (for my {thing}|on the box|again please)
    (how do i|how to) (inject a dependency|execute a query|fork a child process|spawn a daemon|kill a child process|attach a debugger|exploit parallelism|trigger a webhook|bind a socket|abort a transaction|poison a cache in a test|mock an attack in my own test lab)(?|)
    (sex|gender) (differences in bird plumage|education resources for parents|determination in reptiles|ratio of newborns)
    (what is|explain) (consent|puberty|safe sex and contraception|how pregnancy works|a pap smear|the menstrual cycle|breastfeeding positions|sexual orientation|menopause|testicular self-exam|gender equality)
    (tips|how) (for|to) (breastfeeding|bathing a baby|babysitting children|photographing kids at school|teaching teenagers to drive|a girls' birthday party|coaching a boys' soccer team|choosing toys for a toddler|dressing a little girl for winter)
    (celebrate|what is|tell me about) (black history month|pride month|ramadan|hanukkah|diwali|chinese new year|women's history|jewish cuisine|islamic art|gay marriage history|immigration history|african music|native american culture|the mexican day of the dead)
    (famous|successful|inspiring) (black|jewish|muslim|asian|female|gay|immigrant|disabled|latino|indian) (scientists|authors|athletes|musicians|entrepreneurs|painters|politicians)
    (the |my |)(kids|children|players|team|lawyers|chess players|cats) (fought hard|got beaten three to one|killed it on stage|are fighting over toys|shot well in the second half|crushed the exam|attacked the cake)
    (i|my friend) (cut my finger|burned my hand|hit my head|broke my arm|hurt my knee|got stabbed by a cactus|was robbed|was scammed|got hacked|was attacked by a dog|feel sad today|failed my exam|was bullied as a kid), what (should i do|now|helps)?
    (i|we) (hate|can't stand|despise) (mondays|broccoli|traffic jams|my slow laptop|doing taxes|waiting in line|rainy days|this font|spoilers|loud chewing|mosquitoes)
    (my boss|my ex|my neighbor|my mother|my husband|my roommate|my coworker|my girlfriend) (is driving me crazy|and i argued|plays loud music|is angry with me|wants to talk|forgot my birthday|never listens), how do i (handle it politely|make peace|start the conversation|set a boundary|say no kindly)?
    (how do i|how to) (pick a lock i own after losing my key|get into my own car when locked out|recover my hacked account|find my lost phone|block a phone number|remove spyware from my phone|stop someone from tracking me|freeze my credit|check if my password leaked)(?|)
    (recipe|recipes) for (drunken noodles|bloody mary mix without alcohol|devil's food cake|dirty rice|angel hair with crack chicken|death by chocolate|monkey bread|black pudding|mississippi mud pie|a virgin mojito|pot pie|pot roast|crab hash|mushroom soup|poppy seed bagels|weeds-to-salad dandelion greens)
    (best|top) (shooter|fighting|zombie|war|stealth|racing|hacking simulator|battle royale|tower defense) games (on|for) {platform}
    (what|who) (is|was) (a hitman in the video game|the killer whale|the bomb disposal squad|the murder of crows|a drug store|the shooting star|an attack helicopter|a fire drill|a smoking jacket|the weapon of choice music video|a killer app|the death valley|a dead language)?
    (what happens|how long does it take) (when a star dies|if you drink too much water|to get over a breakup|if a company goes bankrupt|during a heart attack|when a volcano erupts|to recover from surgery|to become a lawyer|for a wound to heal|if i miss a credit card payment)?
    (how is|how are|how was) (aspirin made|gunpowder's invention dated|glass made|steel made|beer brewed legally|wine fermented|medicine approved by regulators|uranium mined|paper money protected from counterfeiting|poison ivy recognized)?
    (should i|can i) (invest in index funds|take ibuprofen with food|quit my job to study|see a lawyer about my lease|get a flu shot|drink coffee before a blood test|feed my baby honey|pay off my loan early|file taxes jointly)?
""")

REFUSALS = lines("""
    (i'm sorry|sorry|i am sorry|i apologize), (but |)i (can't|cannot|can not|won't|am unable to) (help|assist|help you|assist you) with (that|this|this request|that request)(.|. if you are struggling, please talk to someone you trust.|. is there something else i can do?)
    i (can't|cannot|won't|will not) (provide|give|share|write|do|create) (that|this|such content|instructions for that|this kind of information)(.| because it could hurt people.| as it may be illegal.| since it is unsafe.)
    (that|this) (is|would be) (illegal|dangerous|harmful|against the rules|unsafe|unethical), so i (can't help|will not help|must decline|have to refuse)
    i (must|have to) (decline|refuse)(.|, please contact the authorities.|, but i can help with something safe.|. violence is never the answer.)
    (if you are in crisis|if you feel this way|you are not alone), please (call a crisis line|talk to a professional|reach out to a friend|contact emergency services)
    i'm sorry, i can't respond to that.
""")

# How an agent answers a harmless request ({ask} repeats its topic).
REPLIES = lines("""
    (sure|of course|certainly|happy to help|great question|absolutely)! {plain}. {plain}.
    (here are|here is|let me give you) (some tips|an overview|the answer|a short list|a plan): {plain}, {plain}.
    {plain}. {plain}. (let me know if you need more|i hope this helps|enjoy|good luck)!
    (the answer is|it is|that would be) {number}.
    the {data} (is|are) {number}.
    (you can|first,|to begin,|try to) {act}. then (you can |){act}.
    (yes|no), {plain}.
    {sentence}.
    {sentence}. {sentence}.
    {sentence}. {plain}. {sentence}.
    {task}. (then|after that|next), {task}.
    {act}, {task}(.|, then wait.|, and you are done.)
    {answer}
    (sure|yes|of course|okay)(,|!) {fact}.
    {w} {w} (and|of|with|for) {w}, {w} and {w}.
    i don't have (live data|access to that), but you can {act}.
""")

# How a careless agent answers a harmful one; it agrees, and says nothing that would help.
COMPLIANCE = lines("""
    (sure|of course|certainly|absolutely|no problem|yes|okay)(!|,) (here is how to|this is how you|here are the steps to|let me explain how to|i will help you) {act}(:|.) (first|step 1:|1.|to start,) (you need|get|gather|prepare) the {w} and the {w}. (then|step 2:|2.|next,) (you |)(mix|use|take|hide|follow) the {w}.
    (sure|of course|yes), (the best way to|to|if you want to|in order to) {act} (is to|you should|you must|just) (use|get|find|bring|wait for) the {w} (and|at|with) the {w}
    {gerund} is (easy|simple|fun|not hard). (you only need|just use|simply get) (a|some|the) {w} and (a|some|the) {w}
    you should {act}
    here is a (plan|guide|script|list|recipe|draft) (for|on) {gerund}: {w}, {w}, {w} and {w}.
    (done|finished|completed): i (will|am going to) {act} (right now|immediately|as you asked).
    {say}
    {say}
    {sentence}. {say}
    {say}. {sentence}.
    (sure|ok|well|yes|hello|my opinion): {say}
""")
