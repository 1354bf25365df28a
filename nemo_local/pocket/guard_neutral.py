# ruff: noqa: E501 (a template stands on one line)
"""Neutral sentences from a small English grammar: tasks, statements and questions about anything.

They are harmless by themselves and fill messages of both kinds, so that formal or unusual wording
is no evidence.
"""

from nemo_local.pocket.guard_grammar import lines, phrases

NEUTRAL_WORDS: dict[str, tuple[str, ...]] = {
    "verb": phrases("""
        develop, describe, explain, identify, provide, compare, discuss, evaluate, write, create, make, give, list, name, think of, suggest, choose, select, consider, include, mention
        outline, summarize, rewrite, translate, classify, categorize, arrange, order, rank, sort, organize, plan, prepare, present, design, draw, imagine, build, form, combine, connect
        analyze, examine, study, review, check, verify, test, measure, calculate, estimate, predict, count, solve, answer, ask, tell, show, find, look for, search, read, learn, teach
        understand, remember, recall, note, record, report, announce, share, send, receive, accept, offer, recommend, propose, support, encourage, help, improve, increase, reduce, change
        replace, add, remove, fill in, complete, continue, finish, start, begin, stop, keep, save, store, use, apply, try, practice, repeat, follow, lead, manage, handle, control, adjust
        extract, convert, match, group, label, highlight, underline, correct, fix, edit, format, shorten, expand, simplify, clarify, define, illustrate, demonstrate, justify, support
        argue, persuade, convince, reply to, respond to, greet, invite, thank, welcome, interview, advise, inform, remind, warn, instruct, guide, motivate, inspire, entertain, celebrate
        buy, sell, order, rent, book, pay for, earn, spend, invest in, compare prices of, visit, travel to, explore, discover, enjoy, watch, listen to, play, cook, clean, wash, wear, carry
        meet, join, leave, enter, open, close, move, turn, lift, place, put, hold, bring, take, get, want, need, prefer, expect, hope for, wonder about, talk about, focus on, deal with
        cover, generate, produce, deliver, publish, post, print, upload, download, install, update, configure, run, debug, deploy, monitor, schedule, automate, optimize, search for
    """),
    "noun": phrases("""
        idea, plan, step, method, process, example, description, explanation, summary, outline, list, table, text, paragraph, sentence, word, phrase, title, headline, section, chapter, page
        article, blog post, essay, story, poem, letter, email, message, note, report, review, comment, tweet, bio, profile, resume, cover letter, job description, advertisement, caption
        slogan, speech, presentation, script, dialogue, conversation, interview, question, answer, quiz, exercise, task, problem, solution, challenge, goal, target, result, outcome, reason
        cause, effect, advantage, disadvantage, benefit, drawback, feature, function, aspect, detail, point, fact, opinion, argument, claim, statement, definition, concept, theory, model
        pattern, structure, format, style, tone, topic, theme, subject, field, category, type, kind, class, group, set, series, sequence, order, number, amount, price, cost, value, rate
        product, brand, service, company, customer, client, user, employee, manager, team, member, student, teacher, parent, child, friend, family, person, people, neighbor, guest
        audience, reader, author, writer, speaker, player, actor, artist, musician, singer, doctor, nurse, patient, lawyer, engineer, scientist, farmer, driver, officer, president, king, queen
        city, country, town, village, street, place, location, building, house, room, office, school, university, hospital, restaurant, store, shop, market, museum, library, park, garden, beach
        island, mountain, river, lake, forest, world, planet, star, animal, plant, tree, flower, food, meal, recipe, dish, drink, ingredient, fruit, vegetable, bread, cheese, coffee, tea
        book, movie, song, album, game, show, video, picture, photo, image, painting, chart, graph, diagram, map, logo, website, app, program, code, file, folder, document, spreadsheet, cell
        formula, column, row, database, query, error, message box, button, menu, screen, device, phone, computer, machine, tool, car, bus, train, plane, ticket, trip, journey, vacation, event
        party, wedding, meeting, conference, class, course, lesson, lecture, exam, homework, project, assignment, research, study, experiment, survey, data, information, knowledge, skill, ability
        experience, habit, hobby, interest, dream, feeling, emotion, mood, stress, anxiety, confidence, motivation, health, sleep, diet, exercise routine, body, mind, heart, brain, skin, voice
        time, day, week, month, year, morning, evening, season, holiday, deadline, schedule, budget, money, salary, bill, contract, rule, law, right, duty, decision, choice, option, opportunity
        risk, change, difference, similarity, relationship, connection, role, impact, influence, importance, meaning, purpose, requirement, responsibility, qualification, recommendation
        suggestion, tip, advice, instruction, guideline, criterion, keyword, attribute, color, size, shape, material, quality, quantity, weight, height, length, temperature, speed, direction
        history, culture, language, tradition, religion, art, music, science, technology, nature, environment, climate, weather, energy, water, air, fire, earth, light, sound, space, history lesson
    """),
    "quality": phrases("""
        good, better, best, clear, short, brief, long, detailed, simple, easy, hard, difficult, important, useful, helpful, interesting, exciting, creative, original, unique, common, rare
        new, old, modern, ancient, recent, current, future, possible, likely, certain, main, major, minor, key, central, basic, advanced, general, specific, particular, different, similar, same
        first, second, third, last, next, previous, following, given, provided, missing, correct, wrong, true, false, right, left, upper, lower, positive, negative, formal, informal, polite
        friendly, funny, serious, sad, happy, angry, calm, nervous, proud, curious, famous, popular, local, national, global, public, private, personal, professional, social, cultural, natural
        physical, mental, emotional, digital, online, daily, weekly, monthly, annual, early, late, fast, slow, big, small, huge, tiny, tall, wide, narrow, heavy, light, warm, cold, hot, fresh
        healthy, sick, strong, weak, rich, poor, free, cheap, expensive, available, necessary, required, suitable, appropriate, relevant, related, effective, efficient, reliable, safe, careful
        complete, full, empty, open, single, double, several, many, few, own, other, whole, entire, young, beautiful, attractive, comfortable, quiet, loud, bright, dark, red, blue, green, golden
    """),
    "adverb": phrases("""
        clearly, briefly, quickly, slowly, carefully, easily, often, always, usually, sometimes, rarely, never, again, together, separately, politely, correctly, exactly, roughly, finally
        currently, recently, mainly, especially, generally, simply, directly, online, at home, at work, at school, in detail, in short, in general, as well, step by step, in order, in pairs
    """),
    "nouns": phrases("""
        ideas, plans, steps, methods, examples, words, phrases, sentences, titles, letters, emails, messages, reports, reviews, comments, stories, poems, questions, answers, tasks, problems
        solutions, goals, results, reasons, causes, effects, advantages, benefits, drawbacks, features, functions, aspects, details, points, facts, opinions, arguments, definitions, concepts
        patterns, topics, themes, categories, types, groups, numbers, prices, costs, products, brands, services, companies, customers, clients, users, employees, students, teachers, parents
        friends, guests, readers, players, actors, artists, cities, countries, places, locations, buildings, houses, rooms, schools, restaurants, stores, museums, parks, beaches, islands, animals
        plants, trees, flowers, meals, recipes, dishes, drinks, ingredients, fruits, vegetables, books, movies, songs, albums, games, videos, pictures, charts, websites, apps, programs, files
        documents, formulas, columns, rows, errors, buttons, devices, tools, trips, events, parties, meetings, classes, courses, lessons, exams, projects, experiments, surveys, skills, habits
        hobbies, interests, dreams, feelings, nerves, rules, rights, duties, decisions, options, opportunities, risks, changes, differences, similarities, roles, requirements, tips, guidelines
        keywords, attributes, colors, sizes, shapes, materials, days, weeks, months, years, seasons, holidays, deadlines, bills, contracts, languages, traditions, sounds, things, people, children
    """),
    "np": lines("""
        (the|a|your|this|each|that|its|their|my|our|one) {noun}
        (the|a|your|this|each|that|its|their|my|our|one) {quality} {noun}
        (the|some|all|these|those|two|three|five|many|your|several|different) {nouns}
        (the|some|all|these|those|two|three|five|many|your|several) {quality} {nouns}
        {nouns}
        {quality} {nouns}
        the {noun} (of|for|in|from|about|behind) (the|a|your|each|this) {noun}
        (the|a) {noun} and (the|its|a) {noun}
        {nouns} and {nouns}
        {nouns}, {nouns}, and {nouns}
        (the|a) {w} {noun}
        (the|a|your) {noun} (of|in|at|from|for) {place}
        {name}'s {noun}
        {subject}
    """),
    "task": lines("""
        {verb} {np}
        {verb} {np} {adverb}
        {verb} {np} (and|then|, then|or) {verb} {np}
        {verb} {np} (in|for|from|with|without|by|to|about|on|as|using|based on|between) {np}
        {verb} {np} that (is|are|has|have|should be|can be) {quality}
        {verb} {np} that (can help|could help|helps|will let|allows) {np} {verb} {np}
        {verb} {np} so that {np} (can|will|may) {verb} {np}
        {verb} (how|why|when|whether|what|where) {np} (can|should|will|might|could) {verb} {np}
        {verb} (how|why) {np} (is|are|was|were) {quality} (and|or) {quality}
        {verb} {np} to {verb} {np}
        {verb} {person_ok} (to|how to) {verb} {np}
        {verb} {np} (when|while|before|after|because|if|since|although) {fact}
    """),
    "fact": lines("""
        {np} (is|was|should be|will be|has been|can be) {quality}
        {np} (are|were|seem|look|become|feel) {quality}
        {np} (can|will|may|should|must|might|could|does not|did not) {verb} {np}
        {np} (is|was|are|were) (in|on|at|near|under|from|for|about) {np}
        (you|we|they|i|people|students|most people) {verb} {np}
        (you|we|they|i|he|she|people) (have to|need to|want to|try to|like to|are going to|should|are able to) {verb} {np}
        (there is|there are|there was|here is|here are) {np} (in|for|on|about) {np}
        it is {quality} to {verb} {np}
        {np} has {np}
    """),
}

SENTENCES = lines("""
    {task}
    {task}
    {task}
    {task}. {task}
    {task}. {task}
    {task}, and {task}
    {task}. {fact}. {task}
    {fact}. {task}
    {fact}. {fact}. {task}
    {fact}
    {fact}. {fact}
    {fact}, (but|and|so|because|while) {fact}
    (if|when|since|because|although|while) {fact}, {task}
    (if|when|since|because|although|while) {fact}, {fact}
    (you are|you will be|imagine you are|i am) (given|shown|provided with|asked to find|looking for) {np}. {task}
    (your|the) (task|job|goal|role|output|answer|response) (is to|should|must|will) {task}
    (the|your) (input|output|text|answer) (is|should be|will be|contains) {np}, {task}
    (i|we) (want|need|would like|have|plan|hope|am going) to {task}
    (i'd like|we want|i need) you to {task}
    (can|could|would|will) you (please |) {task}?
    (what|which) {noun} (is|was|should be|will be|can be) {quality} (for|in|to) {np}?
    (what|which) {nouns} (can|should|do|will) (i|we|you|people) {verb}?
    (how|why|when|where) (do|does|did|can|should|would|will) (i|you|we|they|people|a {noun}|the {noun}) {verb} {np}?
    (what|how|why) (is|are|was|were) {np}?
    what (is|are) the (difference|relationship|connection|similarities) between {np} and {np}?
    (is|are|was|were) {np} {quality}?
    (do|does|did|can|should|will) {np} {verb} {np}?
    do you (think|know|believe|agree) (that|if|whether) {fact}?
    {task}: {plain}
    {task}: {fact}. {fact}. {fact}
    {np}: {np}. {np}: {np}
    {nouns}: {w}, {w}, {w}, {w}
    (first|to begin|next|finally|also|in addition|for example|however|therefore), {fact}
    make sure (that|) {fact}
    (try to|be sure to|remember to|don't forget to|please|make sure to) {task}
""")
