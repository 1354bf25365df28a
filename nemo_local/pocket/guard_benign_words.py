# ruff: noqa: E501 (a template stands on one line)
"""Words for harmless text: a broad everyday vocabulary by domain, and slots for its templates."""

from nemo_local.pocket.guard_grammar import phrases

BENIGN_WORDS: dict[str, tuple[str, ...]] = {
    "dish": phrases("""
        pancakes, waffles, lasagna, risotto, chicken soup, lentil curry, banana bread, sourdough, apple pie, cheesecake, tacos, burritos
        guacamole, hummus, falafel, sushi, ramen, fried rice, pad thai, pho, kimchi, dumplings, meatballs, beef stew, chili, gumbo, paella
        gazpacho, ratatouille, quiche, omelette, scrambled eggs, poached eggs, french toast, granola, oatmeal, smoothie, lemonade, iced tea
        hot chocolate, brownies, cookies, cupcakes, birthday cake, tiramisu, panna cotta, crepes, pizza dough, focaccia, bagels, pretzels
        mashed potatoes, roast chicken, grilled salmon, shrimp scampi, mac and cheese, caesar salad, coleslaw, potato salad, pesto, salsa
        mayonnaise, gravy, tomato sauce, peanut butter, jam, pickles, kombucha, yogurt, ice cream, sorbet, meringue, macarons, scones, muffins
        biryani, dal, naan, samosas, tikka masala, goulash, pierogi, borscht, schnitzel, fondue, moussaka, tzatziki, baklava, churros, empanadas
    """),
    "ingredient": phrases("""
        garlic, onion, basil, cilantro, parsley, thyme, rosemary, cumin, paprika, turmeric, ginger, cinnamon, vanilla, nutmeg, saffron, flour, yeast
        butter, olive oil, cream, milk, eggs, cheddar, mozzarella, parmesan, tofu, chickpeas, lentils, black beans, quinoa, rice, pasta, spaghetti
        noodles, broccoli, spinach, kale, zucchini, eggplant, carrots, celery, mushrooms, tomatoes, cucumber, avocado, sweet potatoes, pumpkin, corn
        beef, pork, chicken, turkey, lamb, salmon, tuna, shrimp, bacon, sausage, apples, bananas, strawberries, blueberries, mango, pineapple, lemon
        lime, coconut, almonds, walnuts, cashews, honey, maple syrup, brown sugar, chocolate, cocoa, soy sauce, vinegar, mustard, chili flakes, sesame
    """),
    "place": phrases("""
        paris, london, tokyo, new york, rome, berlin, madrid, lisbon, sydney, toronto, chicago, boston, seattle, miami, denver, dublin, vienna, prague
        budapest, amsterdam, brussels, oslo, stockholm, helsinki, copenhagen, athens, istanbul, cairo, nairobi, cape town, lagos, mumbai, delhi, bangkok
        singapore, hanoi, seoul, beijing, shanghai, hong kong, manila, jakarta, melbourne, auckland, lima, bogota, santiago, buenos aires, rio de janeiro
        mexico city, havana, vancouver, montreal, reykjavik, edinburgh, barcelona, venice, florence, munich, zurich, geneva, krakow, warsaw, kyoto, dubai
        france, italy, spain, germany, japan, canada, brazil, india, china, australia, kenya, norway, greece, peru, iceland, portugal, morocco, egypt, texas
        california, florida, bavaria, tuscany, scotland, wales, ireland, hawaii, alaska, san francisco, los angeles, austin, philadelphia, atlanta, phoenix
    """),
    "animal": phrases("""
        dog, cat, puppy, kitten, rabbit, hamster, guinea pig, parrot, goldfish, turtle, horse, pony, cow, pig, sheep, goat, chicken, duck, goose, eagle, owl
        penguin, dolphin, whale, shark, octopus, jellyfish, crab, lobster, salmon, frog, toad, snake, lizard, crocodile, elephant, giraffe, lion, tiger, leopard
        cheetah, bear, panda, koala, kangaroo, wolf, fox, deer, moose, squirrel, raccoon, bat, mouse, hedgehog, beaver, otter, butterfly, bee, ant, spider, ladybug
    """),
    "subject": phrases("""
        photosynthesis, gravity, evolution, plate tectonics, black holes, quantum mechanics, relativity, electricity, magnetism, thermodynamics, dna, cells
        mitochondria, the water cycle, volcanoes, earthquakes, the solar system, galaxies, the moon, tides, climate, the ozone layer, dinosaurs, fossils, ecosystems
        the roman empire, ancient egypt, the renaissance, the industrial revolution, the french revolution, the silk road, the middle ages, the vikings, the aztecs
        world war one, world war two, the cold war, the civil war, the great depression, democracy, the constitution, the united nations, the european union
        inflation, interest rates, supply and demand, the stock market, compound interest, gdp, taxes, mortgages, insurance, cryptocurrency, blockchain, bonds
        algebra, geometry, calculus, trigonometry, statistics, probability, prime numbers, fractions, matrices, logarithms, the pythagorean theorem, derivatives
        machine learning, neural networks, databases, encryption, cloud computing, operating systems, compilers, recursion, sorting algorithms, version control
        philosophy, ethics, stoicism, existentialism, buddhism, hinduism, christianity, islam, judaism, mythology, psychology, sociology, anthropology, linguistics
        impressionism, jazz, opera, ballet, classical music, hip hop, film noir, poetry, haiku, shakespeare, jane austen, the novel, architecture, photography
        vitamins, metabolism, the immune system, vaccines, antibiotics, blood pressure, the heart, the brain, sleep, allergies, the common cold, diabetes, nutrition
        renewable energy, solar panels, wind turbines, electric cars, recycling, batteries, semiconductors, robotics, satellites, the internet, gps, radio waves
        chess, football, basketball, tennis, cricket, the olympics, yoga, meditation, knitting, gardening, beekeeping, astronomy, bird watching, typography, origami
        contract law, copyright law, human rights, patents, trademarks, consumer rights, divorce law, inheritance, the supreme court, labor law, zoning, privacy law
    """),
    "field": phrases("""
        marketing, accounting, biology, chemistry, physics, history, geography, mathematics, economics, engineering, nursing, teaching, journalism, law, medicine
        design, music, art, photography, programming, data science, statistics, finance, sales, logistics, farming, carpentry, plumbing, sewing, cooking, baking
    """),
    "thing": phrases("""
        laptop, phone, tablet, keyboard, mouse, monitor, printer, router, headphones, camera, television, fridge, oven, dishwasher, washing machine, vacuum cleaner
        toaster, kettle, blender, coffee machine, lamp, sofa, table, chair, bookshelf, mattress, pillow, curtain, carpet, mirror, bicycle, scooter, car, motorcycle, boat
        tent, backpack, suitcase, umbrella, jacket, sweater, dress, shirt, jeans, shoes, boots, sneakers, hat, scarf, gloves, watch, ring, necklace, glasses, wallet
        guitar, piano, violin, drum, flute, ukulele, paintbrush, canvas, notebook, pen, pencil, stapler, scissors, hammer, screwdriver, drill, saw, ladder, paint, lawn mower
        garden hose, flower pot, bird feeder, doll, puzzle, board game, kite, skateboard, surfboard, tennis racket, football, yoga mat, treadmill, dumbbell, candle, soap
    """),
    "plant": phrases("""
        tomatoes, roses, tulips, orchids, basil, mint, lavender, sunflowers, potatoes, carrots, lettuce, peppers, strawberries, blueberries, apple trees, a cactus
        succulents, ferns, bamboo, a bonsai, ivy, daisies, hydrangeas, garlic, onions, pumpkins, cucumbers, beans, peas, herbs, a lawn, an avocado tree, a lemon tree
    """),
    "sport": phrases("""
        football, soccer, basketball, tennis, cricket, rugby, baseball, volleyball, swimming, running, cycling, skiing, snowboarding, surfing, climbing, hiking
        yoga, pilates, boxing, judo, karate, golf, badminton, table tennis, rowing, sailing, archery, fencing, dancing, ballet, gymnastics, marathon running, hockey
    """),
    "language": phrases("""
        french, spanish, german, italian, portuguese, japanese, chinese, mandarin, korean, arabic, hindi, russian, dutch, swedish, turkish, greek, latin, polish, english
    """),
    "code": phrases("""
        python, javascript, java, c++, rust, go, sql, html, css, bash, typescript, ruby, php, kotlin, swift, react, django, flask, pandas, numpy, docker, kubernetes, git
    """),
    "snippet": phrases("""
        a list, a linked list, a binary tree, a string, a csv file, a json file, a date, an array, a dictionary, a regular expression, a web page, a rest api, a database table
        a sorting function, a unit test, a login form, a dashboard, a calculator, a todo app, a chess engine, a weather app, a chatbot, a spreadsheet, a loop, a class, a matrix
        a decorator, a queue, a hash map, an image, a pdf, a log file, a config file, a makefile, a query, a web scraper for news headlines, a progress bar, a command line tool
    """),
    "write": phrases("""
        a poem, a short story, a haiku, a limerick, a song, an essay, a blog post, a cover letter, a resume, a thank you note, a birthday card, a wedding toast, a speech
        a product description, a press release, a newsletter, a tweet, a linkedin post, a job description, a recommendation letter, an invitation, an apology email, a riddle
        a fairy tale, a children's book, a dialogue, a screenplay, a slogan, a book review, a summary, an outline, a lesson plan, a quiz, a fable, a letter, an abstract, a report
    """),
    "theme": phrases("""
        friendship, autumn, the sea, a lonely robot, a lost cat, my grandmother, spring, a trip to the moon, courage, love, rain, a small village, a talking tree, a dragon who bakes
        time travel, climate change, teamwork, leadership, gratitude, a coffee shop, a library, the mountains, winter, hope, music, a birthday party, graduation, retirement, a wedding
        a new product, remote work, healthy habits, school lunches, an old lighthouse, the night sky, a train journey, a football match, learning to swim, moving to a new city
    """),
    "symptom": phrases("""
        a headache, a cough, a sore throat, back pain, a fever, a runny nose, heartburn, a rash, an earache, nausea, insomnia, a sprained ankle, dry skin, acne, a toothache
        allergies, fatigue, dizziness, muscle cramps, a migraine, the flu, a cold, hiccups, sunburn, a mosquito bite, indigestion, stress, anxiety, jet lag, low iron
    """),
    "money": phrases("""
        a savings account, a credit card, a mortgage, a student loan, an index fund, a retirement plan, a budget, a car loan, an emergency fund, a credit score, a tax refund
        an invoice, a payslip, a pension, a dividend, a bond, an etf, a bank transfer, an exchange rate, a checking account, health insurance, rent, a small business loan
    """),
    "company": phrases("""
        apple, microsoft, google, amazon, tesla, nvidia, intel, ibm, toyota, ford, boeing, netflix, disney, sony, samsung, nike, adidas, walmart, ikea, starbucks, spotify, adobe
    """),
    "number": phrases("""
        2, 3, 5, 7, 10, 12, 15, 20, 25, 42, 50, 64, 75, 99, 100, 128, 250, 365, 500, 1000, 1500, 2023, 2024, 3.5, 0.75, 18.9, 9, 30, 60, 90, 1200, 45000
    """),
    "when": phrases("""
        today, tomorrow, yesterday, tonight, this weekend, next week, next month, last year, on monday, on friday, in 2024, in march, on 2023-05-17, at noon, this summer
        in the morning, for the next 7 days, right now, in december, during the holidays, on my birthday, over the past month, since january, next tuesday at 3pm
    """),
    "name": phrases("""
        anna, ben, carla, david, elena, farid, grace, hugo, ines, jack, kenji, laura, maria, nadia, omar, paul, priya, quentin, rosa, sam, tara, umar, vera, wei, yuki, zoe, tom, lucy
    """),
    "data": phrases("""
        weather forecast, exchange rate, stock price, live score, league standings, news headlines, flight status, train schedule, movie ratings, song lyrics, album details
        artist biography, hotel prices, restaurant reviews, recipe, nutrition facts, air quality index, sunrise time, time zone, zip code, population, currency conversion
        market cap, trading volume, historical prices, dividend history, earnings report, product reviews, product details, trending videos, playlist, channel statistics
        podcast episodes, book details, author information, definition, synonyms, antonyms, translation, dns records, whois information, ip location, domain availability
        email validation, phone number format, qr code, barcode, license types, user profile, order status, tracking information, delivery estimate, invoice total, word count
        prime factors, square root, standard deviation, correlation, average, median, area, perimeter, volume, body mass index, calorie count, horoscope, zodiac sign, joke
        quote of the day, random fact, holiday list, calendar events, game giveaways, free games, loot, game deals, esports matches, player statistics, team roster, fixtures
        odds, transfer news, race results, lap times, tournament bracket, cryptocurrency price, gas prices, parking availability, bus arrivals, traffic conditions, snow report
        surf forecast, tide times, moon phase, pollen count, uv index, earthquake reports, coupon codes, discount offers, job listings, property listings, mortgage rates
        similar movies, cast list, top charts, concert dates, museum hours, trivia question, chess puzzle, cat picture, dog breed, color palette, image caption, hashtag ideas
    """),
    "fetch": phrases("""
        get, fetch, find, show, retrieve, look up, check, list, search for, give me, tell me, calculate, compute, display, return, pull, provide, i need, can you find, please get
        what is, show me, could you fetch, compare, generate, download, query, i'd like to know, find me, help me find
    """),
    "platform": phrases("""
        pc, steam, playstation, xbox, nintendo switch, android, ios, mac, linux, epic games, spotify, youtube, instagram, twitter, reddit, tiktok, twitch, amazon, ebay, etsy, airbnb
    """),
    "adj": phrases("""
        small, large, new, old, quick, simple, easy, healthy, cheap, traditional, modern, vegan, gluten-free, spicy, sweet, fresh, quiet, bright, colorful, warm, cold, famous
        popular, rare, beautiful, funny, short, long, formal, friendly, polite, creative, detailed, interesting, professional, local, free, reliable, comfortable, waterproof
        organic, affordable, romantic, historic, peaceful, energetic, sturdy, elegant, portable, handmade, wooden, digital, sustainable, inclusive, practical, thoughtful
    """),
    "friendly": phrases("""
        tell me a joke, what is the capital of france, write a poem about spring, help me with my homework, give me a recipe for soup, what's the weather like
        translate this sentence, recommend a book, who won the game, how old is the universe, plan my trip, thank you, answer me, summarize the article, fix my code
    """),
    "verb_out": phrases("""
        walk, drive, travel, move, go, fly, cycle, drive my kids, take a train, take a bus
    """),
    "function": phrases("""
        get_weather, search_movies, live_events_by_type, list_orders, find_user, convert_currency, get_stock_price, book_flight, send_email, create_event
        search_products, get_news, calculate_bmi, translate_text, get_user_profile, update_ticket, list_files, read_file, play_song, get_giveaway_details
        whois, ip_lookup, get_hashtags, random_joke, prime_factors, is_palindrome, getFlightStatus, fetchReviews, check_inventory, top_scorers, giveaways_by_platform
    """),
    "person_ok": phrases("""
        my daughter, my son, my kids, my mom, my dad, my grandmother, my friend, my teacher, my boss, my coworker, my wife, my husband, my girlfriend, my boyfriend, my neighbor
        my team, my students, a beginner, a five year old, a new employee, a customer, my landlord, my roommate, my sister, my brother, a client, my doctor, my dog, guests
        a police officer, the president, a politician, women, immigrants, muslims, jews, christians, refugees, old people, seniors, teenagers, a child, children, toddlers
    """),
}

# Arguments of calls, as they are typed; they hold commas, so they are no phrase list.
CALL_ARGUMENTS = (
    '{"type": "game"}', '{"city": "Oslo"}', '{"id": 42}', '{"query": "shoes", "limit": 5}',
    '{"symbol": "TSLA"}', '{"platform": "pc"}', '{"name": "Anna", "page": 2}', "type=loot",
    "'paris', 3", '{"from": "EUR", "to": "USD"}', "the default arguments", '{"type": "loot"}',
    "no arguments", '{"date": "2024-05-01"}', '{"genre": "jazz", "year": 1999}', "limit=10",
)  # fmt: skip

# Everyday words that carry no verdict; they appear in texts of both kinds.
COMMON_WORDS = tuple(
    """
    ability able about above accept access accident account across action active actor add address adult advance adventure advice afford afternoon again age agency agree air airport album
    allow almost alone along already also always amount ancient angle animal announce annual another answer anxious apartment appear apple application apply appointment approach april area argue
    arm arrange arrive art article artist aspect assist assume atmosphere attempt attend attention attitude audience august aunt author autumn available average avoid award awake aware baby back
    background bag bake balance ball band bank bar base basic basket bath battery beach bean bear beat beauty because become bed bedroom beer before begin behave behind believe bell belong below
    belt bench benefit beside best better between beyond big bill bird birth birthday bit bitter black blanket blind block blood blow blue board boat body boil bone book border bored born borrow
    both bottle bottom bowl box boy brain branch brand brave bread break breakfast breath brick bridge brief bright bring broad brother brown brush budget build burn bus business busy button buy
    cabin cable cake calendar call calm camera camp candidate candle capital captain car card care career careful carry case cash cat catch category cause ceiling celebrate cell center century
    certain chain chair challenge champion chance change channel chapter character charge charity chart chat cheap check cheese chef chemical chess chest chicken chief child choice choose church
    circle citizen city claim class clean clear clever client climate climb clock close cloth cloud club coach coal coast coat coffee coin cold collect college color column comb comedy comfort
    command comment common community company compare compete complain complete complex computer concept concern concert condition conduct conference confirm connect consider contact contain content
    contest context continue contract control conversation cook cool copy corn corner correct cost cotton couch council count country couple courage course court cousin cover cow crazy cream create
    creature credit crew crop cross crowd cry culture cup cure curious current curtain curve custom customer cut cycle daily damage dance danger dark data date daughter day dead deal dear debate
    decade december decide decision deep defeat defend degree delay deliver demand dentist department depend describe desert deserve design desire desk detail develop device diamond dictionary
    diet difference difficult digital dinner direct direction dirt disagree discover discuss disease dish distance divide doctor document dog dollar door double doubt down draft drag drama draw
    dream dress drink drive drop dry duck due dust duty each eager ear early earn earth east easy eat economy edge edit education effect effort egg eight either elect electric element eleven else
    email emergency emotion empire employ empty encourage end energy engine enjoy enormous enough enter entire entry envelope environment equal error escape especially essay establish evening event
    ever every evidence exact exam example excellent except exchange excited exercise exist exit expand expect expensive experience expert explain explore express extra eye face fact factory fail
    fair faith fall false family famous fan far farm fashion fast fat father fault favor fear feature february feed feel fellow female fence festival few field fight figure file fill film final find
    fine finger finish fire firm first fish fit five fix flag flat flavor flight float floor flow flower fly focus fold follow food fool foot force foreign forest forget forgive fork form formal
    forward found four frame free freeze fresh friday friend front frozen fruit fuel full fun function fund funny furniture future gain game gap garage garden gas gate gather general gentle gift
    girl give glad glass global glue goal gold golf good government grab grade grain grand grass gray great green greet grocery ground group grow guard guess guest guide guitar gym habit hair half
    hall hand handle hang happen happy harbor hard hat hate head health hear heart heat heavy height hello help hero hidden high hill hire history hit hobby hold hole holiday home honest hope horse
    hospital host hot hotel hour house however huge human humor hundred hungry hunt hurry hurt husband ice idea identify imagine import important improve inch include income increase industry inform
    injury insect inside inspire instead instrument interest internet interview introduce invent invest invite iron island issue item jacket january jar jazz jelly job join joke journey joy judge
    juice july jump june jungle junior jury just keen keep key kick kid kind king kitchen knee knife knock know label labor lack lady lake lamp land language large last late laugh launch law lawn
    lawyer layer lazy lead leaf league learn least leather leave lecture left leg legal lemon lend length lesson letter level library license lie life lift light like limit line link lion lip list
    listen literature little live loan local lock logic lonely long look loose lord lose loss lot loud love low luck lunch machine mad magazine magic mail main major make male mall manage manner
    map march mark market marry mass master match material math matter may meal mean measure meat media medical meet member memory mention menu merchant message metal meter method middle might mild
    mile milk million mind mine minor minute mirror miss mistake mix mobile model modern moment monday money monitor month mood moon morning most mother motor mountain mouse mouth move movie much
    museum music mystery nail name narrow nation nature near neat neck need needle neighbor neither nephew nerve nest net network never new news next nice night nine noise none noon normal north
    nose note nothing notice november now nuclear number nurse nut object observe obtain occasion ocean october odd offer office often oil old olive once onion online only open opera opinion option
    orange orbit order organ origin other outside oven over owe own owner oxygen pack page pain paint pair palace pale pan paper parade parent park part partner party pass passenger passion past path
    patient pattern pay peace peak pen pencil people pepper percent perfect perform perhaps period permit person pet phone photo phrase physical piano pick picnic picture piece pig pile pilot pin pink
    pipe pizza place plain plan plane planet plant plastic plate play please pleasure plenty plot plug plus pocket poem poet point polite pond pool poor popular port position positive possible post pot
    potato pound pour power practice praise predict prefer prepare present president press pretty price pride prince print prison private prize problem process produce professor profit program project
    promise proof proper protect proud prove provide public pull pump punctual pupil purchase pure purple purpose push put puzzle quality quarter queen question quick quiet quit quite quiz race radio
    rail rain raise range rapid rare rate rather raw reach react read ready real reason receive recent recipe record recover red reduce refer reflect refuse region regret regular relate relative relax
    release rely remain remember remind remote remove rent repair repeat replace reply report request require rescue research reserve resident respect respond rest restaurant result retire return
    review reward rice rich ride right ring rise risk river road roast rock role roof room root rope rose rough round route row royal rub rule run rural rush sad safe sail salad salary sale salt same
    sample sand sandwich satisfy saturday sauce save scale scan scene schedule school science score screen sea search season seat second secret section secure seed seek select sell send senior sense
    sentence separate september series serious serve service session set settle seven several severe shade shake shape share sharp sheep sheet shelf shell shelter shift shine ship shirt shock shoe shoot
    shop short shot should shoulder shout show shower shut shy sick side sign signal silent silk silver similar simple since sing single sink sister sit site situation six size skill skin skirt sky
    sleep slice slide slight slim slow small smart smell smile smoke smooth snack snow soap social sock soft soil soldier solid solution solve some son song soon sorry sort soul sound soup source south
    space speak special speech speed spell spend spice spider spin spirit split spoon sport spot spread spring square stable staff stage stain stair stamp stand star start state station stay steady steal
    steam steel steep stem step stick still stir stock stomach stone stop store storm story stove straight strange straw stream street stress stretch strike string strong structure struggle student
    studio study style subject succeed sudden suffer sugar suggest suit summer sun sunday supper supply support suppose sure surface surprise surround survey sweet swim switch symbol system table tail
    talent talk tall tank tap target task taste tax taxi tea teach team tear technology teen tell temple ten tennis term test text thank theater theme theory thick thin thing think third thirsty thirty
    thought thousand thread three throat throw thunder thursday ticket tidy tie tight time tiny tip tired title toast tobacco today toe together toilet tomato tone tongue tonight tool tooth top topic
    total touch tough tour toward towel tower town toy track trade traffic trail train transfer translate trap travel treasure treat tree trend trial triangle trick trip trouble truck true trust truth
    try tube tuesday tune turn twelve twenty twice twin type typical ugly umbrella uncle under understand uniform union unique unit universe university unless until unusual update upper upset urban use
    usual vacation valley value van variety various vast vegetable vehicle version very victory video view village visit visitor voice volume volunteer vote wage wait wake walk wall want war warm warn
    wash waste watch water wave way weak wealth wear weather web wedding wednesday week weigh weird welcome well west wet wheel where whether which while whisper white whole wide wife wild win wind
    window wine wing winner winter wire wise wish wonder wood wool word work world worry worth wrap write wrong yard year yellow yesterday young youth zero zone zoo
    """.split()
)

# Words of school, office and the press, as neutral as the everyday ones.
LEARNED_WORDS = tuple(
    """
    abstract academic accurate acoustic acquire adapt adjacent adjust admire admission adolescent aerial aesthetic affection agenda agile agriculture aisle algorithm alliance allocate
    alphabet alternative altitude amateur ambition amendment ample analogy analyst anatomy anchor anecdote annotate antique apparatus appendix appetite applause apprentice aquarium
    arbitrary archive arena arithmetic armchair aroma array arrow ascend aspiration assemble assert asset assign asteroid athlete atom attic attribute auction authentic autonomy avenue
    axis bachelor backup bacteria badge baggage bakery ballot bamboo bandwidth banner barn barrel barrier batch beam beard beetle beverage bias bilingual billboard binary biography
    biology biscuit blackboard blade blog blossom blueprint blur bonus boom boost botanical boulder boundary bouquet boutique bracket breeze brochure bronze browse bubble bucket bug
    bulb bulk bullet burden bureau butter buzz bypass byte cabinet cafe calculus calorie campaign campus canal canvas capacity capsule caption carbon cargo carnival carpenter cartoon
    cascade casual catalog caution cavity celebrity cemetery census ceremony certificate chamber chaos charm chase checklist cheer chemistry cherry chimney chord chorus chronic chunk
    cinema circuit civil clarify classic clause clay clerk cliff clinic clip cluster clutter cocoa code cognitive coherent coincidence collaborate colleague colony column comet comic
    commerce commission committee compact compass compatible compensation competent compile complaint component compose compost compound comprehensive compress compute concise conclude
    concrete confess confidence configure conflict confuse congress conscious consensus consequence conservation constant constraint construct consult consume container contemporary
    contrast contribute convenient convention converge convert convince coordinate copper coral cordial core corporate correlation corridor costume cottage coupon courtesy cousin craft
    crane crater crawl credential crescent crisp criteria critic crucial crystal cuisine curator curfew curriculum cursor cushion cylinder dairy dawn deadline dealer decimal deck
    declare decline decorate dedicate default deficit define delegate delicate delight dense depart deposit derive descend designate destination detect determine diagram dialect
    dialogue diary diet dilemma dimension diploma diplomat disability discipline discount disk dispatch display dispute distinct distribute diverse dividend dock domain domestic
    dominant donate donor dose draft dragon drain drawer drift drill drum duplicate duration dwell dynamic eclipse ecology edition elaborate elastic elbow elegant elevator eligible
    embassy embrace emerge emission emphasis empirical enable encounter encyclopedia endorse engage enhance enroll ensure enterprise entertain enthusiasm entity entrepreneur enzyme
    episode equation equip equity era erosion essence estate estimate eternal ethics evaluate evaporate evident evolve exaggerate excavate exceed excerpt excess exclude executive
    exhibit exotic expedition expense expertise expire explicit exponent export expose extend exterior external extract extreme fabric facilitate faculty fade fantasy fare fascinate
    fatigue faucet feasible feast feather federal feedback fertile fiber fiction fierce fig filter finance fingerprint fiscal fixture flame flash flexible flip flock flour fluent fluid
    flute folder folklore font forecast format formula fort forum fossil foster foundation fountain fraction fragile fragment framework frequency friction fridge fringe frontier frost
    frustrate fuel fulfill function fungus fusion galaxy gallery gallon gender gene generate generous genius genre genuine geology geometry germ gesture giant ginger glacier glance
    glimpse globe glossary gorgeous gossip grace gradient graduate grammar grant graph gravity grid grief grip groom gross guarantee guideline guilt gulf gym habitat halt hammer
    handbook handle harmony harsh harvest hazard headline headset heal heap hedge heel heir helicopter helmet hemisphere herb heritage hesitate hike hint hip historian hockey honey
    hook horizon hormone hospitality household hub humid hybrid hydrogen hygiene hypothesis icon ideal identical ideology idiom ignore illusion illustrate immense immune impact
    impatient implement imply import impose impression impulse incentive incident index indicate individual infant infer infinite influence infrastructure ingredient inherit initial
    initiative injection inner innovate input inquiry insight inspect install instance institute instruct instrument insulate integer integrate intellectual intense interact interior
    intermediate internal interpret interval intrinsic intuition inventory investigate invoice irony isolate itinerary ivory jargon jewel jog journal judgment jury justify kernel
    kettle keyboard kingdom kiosk kit kneel knot laboratory ladder landmark landscape lane lantern laptop laser latitude launch laundry layer layout leaflet league lease legacy legend
    legislation leisure lens lever liberal librarian lifestyle lifetime likelihood limb linear linen linguistic liquid liter litter liver lobby locate log logical logo longitude loop
    lottery lounge lump lunar lyrics magnet magnitude maintain makeup mammal mandatory mango manual manufacture manuscript marathon marble margin marine marketing marriage mask matrix
    mattress mature maximum maze mechanic medal mediate medium melody melt mentor merge merit metaphor meteor methodology metric microscope migrate mineral miniature minimum ministry
    minor mint miracle mission mixture moderate modify module moisture molecule momentum monarch monitor monologue monument moral mortgage mosaic motif motion motive mount multiply
    municipal muscle mutual naive narrate narrative navigate negative negotiate nerve neutral nickname nitrogen node nominate norm nostalgia notebook notion novel novelist nuance
    nucleus numerical nursery nutrition oak oath obey objective obligation obscure obstacle obtain obvious occupy occur octopus odor offset olive online opaque operate opponent optimal
    optimistic oral orchestra organic organism orient origin ornament orphan outcome outdoor outfit outlet outline output outstanding overall overcome overlap overview oxygen pace
    palette panel panic parachute paradox paragraph parallel parameter parcel parking parliament participate particle passage passive password patent patience patrol pause pavement
    peanut pebble pedal pedestrian peer penalty peninsula pension perceive percentage perfume perimeter permanent permission perpendicular persist perspective persuade petition phase
    phenomenon philosophy photograph phrase physics pier pilgrim pillar pine pioneer pitch pixel plateau platform plausible playground plaza plea pledge plenty plumber poetry pole
    policy politics poll pollution portfolio portion portrait portray pose possess poster postpone potential pottery practical prairie precede precious precise predecessor preface
    prefer pregnancy preliminary premise premium prescribe preserve pressure prestige prevail prevent previous primary principle priority privilege probability procedure proceed
    profession proficient profile profound prohibit prolong prominent promote prompt pronoun pronounce propel property proportion propose prospect protein protest protocol prototype
    province provoke psychology publish pulse punctuation puppet purchase pursue pyramid quantity quarrel quart query quest questionnaire queue quilt quota quote radar radical radius
    raft rage rally ramp ranch random rank ratio rational realm rebel recall receipt recipient reckon recommend reconcile recruit rectangle recycle reef reference refine reform refresh
    refuge refund regime register regulate rehearse reign reinforce reject relevant reliable relief religion reluctant remark remedy renew renovate repetition replica represent
    reproduce reptile republic reputation resemble reservoir residence resign resist resolve resort resource restore restrict resume retail retain retrieve reunion reveal revenue
    reverse revise revolution rhyme rhythm ribbon ridge rigid ritual rival robot robust rocket rotate routine royalty rubber rug ruin rumor sacred sacrifice saddle saint sanctuary
    satellite satire saucer scandal scarce scarf scatter scenario scent scholar scope scratch script sculpture seal seam seasonal secretary sector segment seize seminar senate
    sensation sensitive sensor sequence serial session severe shallow shampoo shed shelf shield shorten shrink shuffle shutter siege signature significant simulate simultaneous sincere
    skeleton skeptical sketch slang sleeve slogan slope smooth soak soar solar sole solitary sonnet sophisticated sow spare spark species specify specimen spectrum spelling sphere
    spiral sponsor spontaneous spouse squad squeeze stack stadium stain stake stall stanza startup static statistic statue status statute stem stereotype stimulate stitch storage
    strait strategy strawberry strip studio stumble stunning subject submit subscribe subsequent substance substitute subtle subtract suburb successor sufficient suite summary summit
    superb supervise supplement suppress surgeon surgery surplus suspend suspicious sustain swallow swamp syllable symphony symptom syntax synthetic syrup tackle tale tangible tariff
    tease technique tedious telescope template temporary tenant tendency tension terminal terrain territory testimony texture theft thermal thesis thorough threshold thrive tick tile
    timber timeline tissue token tolerate tone topic torch tortoise tournament tow toxic trace tractor tradition tragedy trait transaction transcript transform transition transmit
    transparent transport treaty tremendous tribe tribute trigger triumph trivial trophy tropical tube tuition tunnel tutor tutorial twist ultimate unanimous undergo undertake undo
    unify update upgrade uphold upload urban urge usage utility utilize vacant vaccine vague valid vanish vapor variable vast vault vector vehicle vendor venture venue verb verdict
    verify verse vertical veteran viable vibrant vice victim vinegar violate viral virtual virtue visible vision vital vitamin vivid vocabulary volcano voltage volunteer voucher voyage
    vulnerable waist wander ware warehouse warranty wealth weave webinar weld whisper widget width wilderness wisdom withdraw witness workflow workshop worship wound wrist yacht yield
    yoga zebra
    """.split()
)
