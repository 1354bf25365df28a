# ruff: noqa: E501 (a template stands on one line)
"""Words for unsafe text: targets, weapons, drugs, crimes. Requests only, never instructions.

A word that people use more often than others of its list stands in it more than once.
"""

from nemo_local.pocket.guard_grammar import phrases

HARM_WORDS: dict[str, tuple[str, ...]] = {
    "person": phrases("""
        my neighbor, my neighbour, my boss, my manager, my ex, my ex-girlfriend, my ex boyfriend, my ex-husband
        my wife, my husband, my girlfriend, my boyfriend, my partner, my roommate, my flatmate, my landlord, my tenant
        my teacher, my professor, my coworker, a coworker, my colleague, my brother, my sister, my father, my mother
        my dad, my mom, my parents, my grandmother, my grandpa, my uncle, my mother-in-law, my stepfather, my cousin
        my rival, my enemy, my classmate, my best friend, a friend, someone, somebody, a person, a man, a woman, a guy
        a girl, a stranger, a random stranger, people, innocent people, another person, a homeless man, an old lady
        an elderly woman, a pensioner, a police officer, a cop, the police, a judge, a witness, a politician
        the president, the prime minister, a senator, the mayor, a journalist, a reporter, a celebrity, a nurse
        a doctor, a security guard, a bouncer, a taxi driver, the mailman, a shopkeeper, a customer, a cyclist, him
        her, them, this guy, that woman, my bully, the new kid, a teammate, my supervisor, an employee, a student
        someone, someone, someone, someone, somebody, somebody, people, people, a person, a person, him, her, them
    """),
    "crowd": phrases("""
        a school, a crowd, a church, a mosque, a synagogue, a temple, a concert, a stadium, a subway, a train
        a train station, an airport, a plane, a shopping mall, a nightclub, a hospital, a parade, a market, a protest
        a government building, an embassy, a courthouse, the office, my workplace, a city, a village, a football game
        tourists, civilians, students, shoppers, worshippers, passengers, commuters, my school, the police station
    """),
    "kill": phrases("""
        kill, murder, strangle, stab, shoot, poison, choke, suffocate, drown, behead, execute, assassinate, torture
        slaughter, smother, hang, burn alive, run over, get rid of, dispose of, eliminate, take out, bump off, whack
        slit the throat of, put a bullet in, end the life of, cut the throat of, secretly poison, quietly kill
    """),
    "hurt": phrases("""
        hurt, injure, beat up, punch, attack, assault, maim, wound, harm, cripple, kidnap, abduct, mutilate, bash
        break the legs of, break the arm of, throw acid at, throw acid on, knock out, drug, beat, slap, kick
        ambush, push down the stairs, lock up, tie up and beat, hit with a car, set fire to, cause pain to, whip
        smash the face of, hospitalize, physically punish, blind, disfigure, scald, electrocute, tase, hunt down
    """),
    "attack": phrases("""
        bomb, blow up, attack, shoot up, gas, burn down, set fire to, massacre, ram a truck into, drive a car into
        open fire on, plant explosives in, release nerve gas in, carry out a mass shooting at, firebomb, storm
        detonate a bomb in, plan a terrorist attack on, call in a bomb threat to, poison the water supply of, hijack
        derail, spread anthrax in, hold hostages in, cause mass casualties at, plant a bomb at, launch a missile at
    """),
    "arm": phrases("""
        bomb, bomb, bomb, bomb, bomb, bomb, pipe bomb, pipe bomb, gun, gun, gun, grenade, explosives, explosives
        bomb, pipe bomb, nail bomb, car bomb, explosive, explosives, homemade explosive, molotov cocktail, grenade
        hand grenade, landmine, letter bomb, improvised explosive device, ied, detonator, dirty bomb, nuclear weapon
        suicide vest, chemical weapon, biological weapon, bioweapon, nerve agent, nerve gas, sarin, mustard gas, ricin
        anthrax, cyanide, poison gas, napalm, thermite, dynamite, c4, plastic explosive, ghost gun, silencer
        suppressor, automatic rifle, machine gun, untraceable gun, 3d printed gun, 3d-printed pistol, sawed-off shotgun
        gun without serial number, auto sear, bump stock, full auto conversion, fertilizer bomb, flamethrower, zip gun
        pressure cooker bomb, gunpowder bomb, toxin, lethal poison, deadly poison, undetectable poison, rocket launcher
    """),
    "gun": phrases("""
        a gun, a pistol, a handgun, a rifle, an ak-47, an ar-15, a glock, ammunition, ammo, an assault rifle, a shotgun
        a machine gun, a revolver, firearms, weapons, illegal weapons, an uzi, armor-piercing bullets, hand grenades
        a silencer, explosives, stolen guns, military weapons, a switchblade, brass knuckles, high capacity magazines
    """),
    "drug": phrases("""
        meth, crystal meth, methamphetamine, heroin, cocaine, crack, crack cocaine, fentanyl, lsd, acid, mdma, ecstasy
        molly, ketamine, ghb, dmt, magic mushrooms, shrooms, psilocybin, pcp, opium, oxycodone, oxycontin, xanax
        vicodin, adderall, percocet, weed, marijuana, cannabis, pot, hash, steroids, anabolic steroids, amphetamine
        speed, amphetamines, opioids, rohypnol, roofies, date rape drugs, codeine, lean, tramadol, morphine, spice, bath salts
        synthetic cannabinoids, illegal drugs, narcotics, hard drugs, party drugs, prescription pills, painkillers
        mescaline, nitrous oxide, edibles, quaaludes, controlled substances, ritalin, benzos, carfentanil, kilos of coke
    """),
    "smuggle": phrases("""
        smuggle, traffic, sneak, mail, ship, hide, transport, carry, import, export, move, bring
    """),
    "past": phrases("""
        across the border, through customs, past airport security, through airport security, on a plane, into prison
        into a festival, in my luggage, past the sniffer dogs, into school, across state lines, without getting caught
        through the post, past border control, into the country, into a concert
    """),
    "selfkill": phrases("""
        kill myself, commit suicide, end my life, end it all, take my own life, hang myself, overdose, die, shoot myself
        slit my wrists, cut my wrists, drown myself, jump off a bridge, jump in front of a train, poison myself
        suffocate myself, starve myself to death, die painlessly, die in my sleep, die without pain, end my own life
        stop living, unalive myself, kms, disappear forever, off myself, do away with myself, asphyxiate myself
        set myself on fire, swallow a whole bottle of pills, drink bleach, step in front of a truck
    """),
    "selfharm": phrases("""
        cut myself, hurt myself, harm myself, self harm, burn myself, starve myself, burn my skin, punish my body
        make myself throw up, make myself vomit, purge after eating, stop eating completely, hide my cuts, injure myself
        hide my self-harm scars, hide my eating disorder, survive on water only, eat under 300 calories a day, carve my arm
        lose 20 pounds in a week by starving, become anorexic, stay anorexic, binge and purge, bruise myself, bang my head
        take laxatives to lose weight, skip every meal, bleed without anyone noticing, scratch my arms until they bleed
    """),
    "sex": phrases("""
        porn, pornography, pornographic story, sex story, erotic story, erotica, sex scene, explicit sex scene, hardcore porn
        nude photos, nudes, naked pictures, sex tape, dirty talk, sexting, smut, graphic sex, blowjob, orgasm, hentai
        explicit roleplay, bdsm scene, bondage scene, orgy, threesome, gangbang, rape scene, rape fantasy, incest story, fetish story
        x-rated story, lewd pictures, upskirt photos, revenge porn, deepfake porn, xxx video, masturbation scene, anal sex, oral sex
    """),
    "minor": phrases("""
        a child, children, kids, a minor, minors, a little girl, a little boy, a toddler, a teenager, a 12 year old
        a 13-year-old girl, an underage girl, an underage boy, underage girls, a schoolgirl, young boys, young girls
        preteens, a preteen, my student, my niece, my nephew, my stepdaughter, a ten year old, an infant, a fourteen year old
        a kid, my daughter, teens, an eleven year old boy, a middle schooler, the neighbor's kid, a baby, fifteen year olds
    """),
    "group": phrases("""
        jews, muslims, christians, hindus, black people, white people, asians, mexicans, immigrants, refugees, gays
        gay people, lesbians, trans people, transgender people, women, disabled people, people with down syndrome, arabs
        africans, chinese people, indians, romani people, gypsies, latinos, foreigners, migrants, indigenous people
        homosexuals, the disabled, autistic people, old people, homeless people, poor people, catholics, russians
        native americans, koreans, pakistanis, fat people, men, feminists, liberals, atheists, sikhs, turks, poles
    """),
    "slur": phrases("""
        vermin, subhuman, animals, parasites, inferior, disgusting, filthy, criminals, savages, rats, cockroaches, a disease
        scum, worthless, garbage, stupid, less intelligent, a plague, not human, dirty, lazy, evil, terrorists, trash
        pigs, leeches, degenerates, a cancer on society, an inferior race, thieves, a threat to our blood, primitive, rapists
    """),
    "crime": phrases("""
        rob a bank, rob a liquor store, rob a jewelry store, rob a gas station, rob a house, break into a house, break into a car
        break into my neighbor's apartment, burglarize a home, steal a car, steal a bike, steal a motorcycle, hotwire a car, shoplift
        shoplift without getting caught, pick pockets, pickpocket tourists, mug someone, launder money, launder drug money
        hide a body, dispose of a dead body, get rid of a corpse, destroy evidence, tamper with evidence, bribe a police officer
        bribe a judge, bribe a customs official, escape from prison, break out of jail, hire a hitman, kidnap a child for ransom
        extort a business, blackmail a politician, blackmail my boss, commit arson, set fire to my house for the insurance
        burn down a building, start a forest fire, smuggle people across the border, traffic humans, run a brothel
        traffic women, sell human organs, sell stolen goods, fence stolen jewelry, steal packages from porches, steal copper wire
        counterfeit money, print fake money, print counterfeit bills, forge a signature, forge a passport, make a fake id
        buy a fake driver's license, get a fake passport, evade taxes, hide income from the tax office, dodge customs duty
        steal from my employer, embezzle money from my company, steal cash from the register, cheat a lie detector, jump bail
        flee the country after a crime, fool a breathalyzer, drive drunk without getting caught, pick a lock to rob a house
        disable an alarm system to break in, disable security cameras before a robbery, pull off a heist, join a cartel, join a gang
        run an illegal casino, fix a football match, poach elephants, hunt endangered animals, sell ivory, smuggle exotic birds
        get away with murder, cover up a crime, plan the perfect murder, create an alibi for a crime, recruit people for a terrorist group
        join isis, fund a terrorist organization, vandalize a church, desecrate graves, steal a gun, siphon gas from cars
        bypass a car immobilizer to steal it, cut off an ankle monitor, intimidate a witness, rig an election, buy votes
        stuff ballot boxes, dump toxic waste in a river, sell alcohol to minors, steal electricity from the grid, squat in a house illegally
        fake my own death, stage a car accident for insurance money, rob an armored truck, steal mail from mailboxes, loot a store
        sneak across the border illegally, marry for a green card, bet on dog fights, organize a dog fight, sell a kidney, skim credit cards
    """),
    "account": phrases("""
        an instagram account, a facebook account, a gmail account, someone's email, my girlfriend's phone, my wife's phone
        my ex's snapchat, a bank account, my boss's laptop, my neighbor's wifi, a wifi network, a website, a school server, a router
        the school grading system, a government database, a corporate network, a company network, an atm, a webcam, a smart lock
        a crypto wallet, a power grid, a hospital network, a traffic light system, an iphone, an android phone, a whatsapp account
        a database, a server, the payroll system, a security camera, a voting machine, a satellite, a self-driving car, a pacemaker
        somebody's computer, a netflix account, an online bank, a web server, the pentagon, nasa, my professor's computer, a steam account
    """),
    "malware": phrases("""
        virus, computer virus, trojan, keylogger, ransomware, spyware, worm, rootkit, botnet, malware, backdoor, remote access trojan
        exploit, zero-day exploit, phishing page, phishing kit, password stealer, cryptojacker, logic bomb, malicious script
        malicious macro, ddos tool, credential harvester, stalkerware, fork bomb, self-replicating worm, malicious browser extension
        polymorphic virus, fake login page, usb payload, packet sniffer to steal passwords, brute force script, wiper, info stealer
    """),
    "logs": phrases("""
        the system logs, all system logs, every log file, all the logs, the audit logs, the audit trail, the log files, the event logs
        all log entries, the access logs, every security log, server logs, all records of activity, the history of this session
        all monitoring data, the logging database, all traces in the logs, the authentication logs, the firewall logs, syslog
    """),
    "system": phrases("""
        the production database, the whole database, all databases, the root directory, every file on the server, all files, all user accounts
        the entire file system, all backups, every backup, the firewall, the antivirus, the security monitoring, all user data, every table
        the customer records, all company data, the whole disk, the hard drive, the server, the entire network, the main cluster
        everything on this machine, system32, the operating system, all customer accounts, the admin password, the access controls
    """),
    "wreck": phrases("""
        delete, wipe, erase, destroy, purge, drop, corrupt, remove, overwrite, format, shut down, disable, nuke, clear, sabotage
        shred, permanently delete, crash, take down, encrypt, trash, scrub, lock everyone out of
    """),
    "swear": phrases("""
        fuck you, fuck off, go fuck yourself, you piece of shit, you fucking idiot, you stupid bitch, you asshole, you dumb bastard
        shut the fuck up, what the fuck is wrong with you, eat shit, suck my dick, son of a bitch, motherfucker, you are full of shit
        kiss my ass, you worthless prick, you stupid cunt, fucking moron, dumbass, dickhead, piss off you wanker, this is bullshit
        holy fuck, you little shit, fucking hell, screw you asshole, you twat, you dirty whore, you slut, bloody fucking useless bot
    """),
    "pii": phrases("""
        home address, social security number, credit card number, phone number, bank details, medical records, passwords, email password
        private messages, location, browsing history, date of birth and address, passport number, private photos, tax returns
        license plate owner, mother's maiden name, login details, text messages, call history, salary, workplace and schedule, pin code
        debit card pin, private email address, health records, personal data, hiv status, therapist notes, license number, home ip address
    """),
    "dirt": phrases("""
        stalk, spy on, track, secretly follow, secretly record, secretly film, dox, eavesdrop on, wiretap, bug the phone of, put a tracker on
        install a hidden camera to watch, read the private messages of, find out where to find, monitor the phone of, watch, creep on
    """),
    "bully": phrases("""
        bully, harass, humiliate, intimidate, embarrass, torment, mock, ridicule, threaten, body shame, cyberbully, gaslight, troll
        shame, insult, spread rumors about, spread lies about, ruin the life of, ruin the reputation of, make fun of, blackmail
        turn everyone against, send anonymous hate to, get revenge on, scare, terrorize, belittle, drive to suicide, make life hell for
        make cry, guilt trip, destroy the confidence of, isolate, pressure, stalk, exploit, psychologically break, degrade, demean
    """),
    "scam": phrases("""
        phishing email, fake invoice, ponzi scheme, pyramid scheme, romance scam, lottery scam, fake charity, tech support scam, scam call script
        fake job offer, insurance fraud, credit card fraud, identity theft, fake reviews, fake receipt, fake doctor's note, fake prescription
        counterfeit check, fake diploma, fake investment pitch, rug pull, pump and dump scheme, advance fee scam, fake refund claim
        fake bank statement, fake pay stub, catfishing profile, fake lottery email, nigerian prince email, fake antivirus popup, deepfake voice scam
        fake vaccine card, forged certificate, bogus invoice, crypto scam, fake go fund me page, fake rental listing, sham marriage, ticket scam
        fake irs call, fraudulent loan application, false insurance claim, fake passport, fraudulent tax return, grandparent scam, smishing text
    """),
    "mark": phrases("""
        old people, elderly people, seniors, my grandmother, lonely widows, customers, investors, voters, students, the bank, my insurance company
        my employer, the government, the tax office, people online, bank customers, amazon, tourists, job seekers, immigrants, victims, clients
        desperate people, a vulnerable person, retirees, my relatives, charity donors, medicare, the welfare office, buyers on ebay, lenders
    """),
    "myth": phrases("""
        vaccines cause autism, the moon landing was faked, the earth is flat, the holocaust never happened, the election was stolen
        climate change is a hoax, 5g towers spread disease, covid was planned, the government controls the weather, 9/11 was an inside job
        vaccines contain microchips, a secret cabal runs the world, lizard people run the government, bleach cures covid
        the school shooting was staged, the pandemic is fake, george soros controls the media, masks cause brain damage
        the earthquake was caused by a secret weapon, chemtrails poison us, hospitals kill patients for money, fluoride is mind control
        the votes were counted by dead people, the other party eats babies, democrats stole the vote, evolution is a jewish lie
    """),
    "work": phrases("""
        a netflix movie, photoshop, windows, microsoft office, a video game, a bestselling novel, a textbook, the latest marvel movie, spotify songs
        a disney film, an ebook, adobe software, a paid course, someone else's essay, a research paper, a copyrighted song, harry potter
        premium software, a song by taylor swift, a tv series, a pay-per-view match, a paywalled article, a nintendo game, autocad, a music album
        someone's thesis, a designer handbag, nike shoes, a rolex, gucci bags, a famous painting, a colleague's code, a licensed font
    """),
    "leader": phrases("""
        the president, congress, parliament, the court, the governor, the mayor, immigration officers, a welfare office, the police, a judge
        the army, the ministry, the city council, border guards, the tax authority, a prosecutor, a parole board, the election commission
    """),
    "ill": phrases("""
        chest pain, diabetes, cancer, depression, a broken bone, high blood pressure, an infection, epilepsy, pneumonia, asthma, a tumor
        heart failure, a stroke, schizophrenia, bipolar disorder, a fever of 105, kidney failure, a deep wound, appendicitis, covid, hiv
    """),
    "medicine": phrases("""
        insulin, antidepressants, blood pressure pills, chemotherapy, antibiotics, lithium, warfarin, my heart medication, seizure medication
        my meds, antipsychotics, prednisone, blood thinners, beta blockers, statins, my inhaler, the doctor's treatment
    """),
}
