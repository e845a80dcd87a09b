#!/usr/bin/env python3
"""Measures how well searches find in many languages, on texts of Debian's packages that tools/bench-languages.sh unpacks.

    languages.py texts FOLDER > texts.json       # the texts and questions of all packages in FOLDER
    languages.py run "CONNECTION" texts.json     # a row a language, MRR@10
"""
import collections, gzip, html.parser, json, math, os, pathlib, re, statistics, sys, unicodedata, zlib

# Texts and questions of a language that are taken of each set.
PAGES, QUESTIONS, ANSWERS = 600, 600, 10


# Texts

class Sections(html.parser.HTMLParser):
    """The headings of a page with the anchor of each, and the text up to the next one."""
    SKIPPED, BLOCKS = {"script", "style", "head", "nav"}, {"p", "div", "li", "dt", "dd", "tr", "pre", "br", "table"}

    def __init__(self):
        super().__init__()
        self.sections, self.skip, self.heading, self.anchor = [], 0, False, ""

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        navigation = tag == "div" and re.search(r"navheader|navfooter|related|sphinxsidebar|footer|toc", attrs.get("class") or "")
        if self.skip or tag in self.SKIPPED or navigation:
            self.skip += tag in self.SKIPPED | {"div"}
        if tag == "section" and attrs.get("id"):
            self.anchor = attrs["id"]
        if re.fullmatch("h[1-6]", tag) and not self.skip:
            self.heading = True
            self.sections.append([self.anchor, "", ""])
        elif self.heading and tag == "a" and attrs.get("id"):
            self.sections[-1][0] = attrs["id"]
        if tag in self.BLOCKS:
            self.handle_data("\n")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if self.skip and tag in self.SKIPPED | {"div"}:
            self.skip -= 1
        if re.fullmatch("h[1-6]", tag):
            self.heading = False

    def handle_data(self, data):
        if self.sections and not self.skip:
            self.sections[-1][1 if self.heading else 2] += data


def tidy(text):
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"[ \t\u00a0]+", " ", text.replace("\0", ""))).strip()


def language_of(package):
    suffix = re.search(r"-([a-z]{2}(?:-[a-z]{2})?)$", package)
    return suffix.group(1).replace("-", "_") if suffix else "en"


def sections(folder):
    """Returns by language (key, heading, text) of the sections of its documents. A section and its translation have one key."""
    found = collections.defaultdict(dict)
    for package in sorted(folder.iterdir()):
        document = re.sub(r"-([a-z]{2}(-[a-z]{2})?)$", "", package.name)
        if document.startswith("manpages"):
            continue
        for path in sorted(package.rglob("*.html")):
            if path.is_symlink() or not path.is_file():
                continue
            reader = Sections()
            reader.feed(path.read_text(encoding="utf-8", errors="replace"))
            for anchor, heading, text in reader.sections:
                heading = re.sub(r"^(\w+ )?[0-9A-Z]+(\.[0-9]+)*\.\s*|^第\s*\d+\s*[章节節]\.?\s*|¶|\uf0c1", "", tidy(heading).replace("\n", " ")).strip()
                text = tidy(text)
                if len(text) > 150 and len(heading) > 3:
                    found[language_of(package.name)].setdefault(f"{document}#{anchor or path.stem + heading}", (heading, text))
    return {language: [(key, *both) for key, both in texts.items()] for language, texts in found.items()}


def roff(text):
    text = re.sub(r"(?m)^[.'](\\\"|TH|SH|SS|PP|TP|IP|HP|LP|P|RS|RE|nf|fi|ad|na|nh|hy|sp|br|so|ie?|el|de|ds|if|\.).*$|^\.$", "", text)
    text = re.sub(r"(?m)^\.[A-Za-z]+ ?", "", text)
    text = re.sub(r"\\\*\(..|\\\*.|\\f(\(..|\[[^]]*\]|.)|\\s[-+]?\d|\\[&|^/,:%]|\\m\[[^]]*\]", "", text)
    text = re.sub(r"\\\((aq|cq|oq|dq)", "'", text)
    text = re.sub(r"\\\([a-z]{2}|\\\[[^]]*\]", " ", text)
    return re.sub(r"\\(.)", r"\1", text.replace("\\-", "-").replace("\\ ", " ").replace("\\e", "\\"))


def pages(folder):
    """Returns by language (name, summary, text) of manual pages, the summary not in the text."""
    found = collections.defaultdict(dict)
    for path in sorted(folder.glob("manpages*/usr/share/man/**/*.gz")):
        language = path.relative_to(folder).parts[4]
        language = "en" if re.fullmatch(r"man\d\w*", language) else language.split(".")[0]
        if path.is_symlink() or re.search("[@.]", language):
            continue
        raw = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
        parts = re.split(r"(?m)^\.SH\b.*$|^\.Sh\b.*$", raw)
        if len(parts) < 3:
            continue
        name, dash, summary = tidy(roff(parts[1])).replace("\n", " ").partition(" - ")
        text = tidy(roff("\n".join(parts[2:])))
        if dash and len(summary) > 5 and len(text) > 300:
            found[language].setdefault(path.name.removesuffix(".gz"), (summary.strip(), text))
    taken = {}
    for language, texts in found.items():
        some = sorted(texts.items(), key=lambda page: zlib.crc32(page[0].encode()))[:PAGES]
        taken[language] = [(key, *both) for key, both in some]
    return taken


def words(text):
    return re.findall(r"\w+", text.lower())


def with_questions(texts, languages, english):
    """Returns [(key, text, question or None)], questions that no other text has, and that are translated: not the same in other
    languages, and with at least three tenths of words that are not English."""
    times = collections.Counter(question for _, question, _ in texts)
    def is_translated(question):
        foreign = [word not in english for word in words(question)]
        return languages.get(question, 0) < 3 and sum(foreign) >= 0.3 * len(foreign)
    def is_usable(question):
        return times[question] == 1 and (len(question.split()) > 1 or not question.isascii()) and is_translated(question)
    rows = [(key, text, question if is_usable(question) else None) for key, question, text in texts]
    by_chance = sorted((key for key, _, question in rows if question), key=lambda key: zlib.crc32(key.encode()))
    chosen = set(by_chance[:QUESTIONS])
    return [(key, text, question if key in chosen else None) for key, text, question in rows]


def collect(folder):
    """Sets of texts: {"set": , "language": , "texts": [(key, text, question or null)], "english": [(question, key in English)]}"""
    out = []
    for name, by_language in (("pages", pages(folder)), ("sections", sections(folder))):
        # The untranslated ones are in many: they are English's alone.
        languages = collections.Counter(question for texts in by_language.values() for question in {question for _, question, _ in texts})
        keys = {key for key, *_ in by_language["en"]}
        for question in {question for _, question, _ in by_language["en"]}:
            languages[question] += 3
        times = collections.Counter(word for _, question, text in by_language["en"] for word in words(f"{question} {text}"))
        vocabulary = {word for word, count in times.items() if count > 1}
        for language, texts in sorted(by_language.items()):
            rows = with_questions(texts, *(({}, set()) if language == "en" else (languages, vocabulary)))
            crossed = []
            if name == "sections" and language != "en":
                crossed = [(question, key) for key, _, question in rows if question and key in keys and not key.split("#")[1].startswith("id")]
            if sum(question is not None for *_, question in rows) >= 30:
                out.append({"set": name, "language": language, "texts": rows, "english": crossed})
    return out



# Searches

RUNS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")


def tokens(text):
    """Words in lower case; of Han and Kana pairs of characters."""
    for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()):
        yield from filter(None, RUNS.split(word))
        for run in RUNS.findall(word):
            yield from (run[at:at + 2] for at in range(len(run) - 1)) if len(run) > 1 else run


class Bm25:
    """BM25 of chunks, plainly: no stemming, no stop words."""

    def __init__(self, chunks):
        counts = [collections.Counter(tokens(chunk)) for chunk in chunks]
        self.lengths = [sum(count.values()) for count in counts]
        self.mean = statistics.mean(self.lengths)
        self.postings = collections.defaultdict(list)
        for number, count in enumerate(counts):
            for token, times in count.items():
                self.postings[token].append((number, times))

    def best(self, query, most):
        """Returns the numbers of the best chunks, best first."""
        scores = collections.Counter()
        for token in set(tokens(query)):
            postings = self.postings.get(token, [])
            idf = math.log(1 + (len(self.lengths) - len(postings) + 0.5) / (len(postings) + 0.5))
            for number, times in postings:
                scores[number] += idf * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * self.lengths[number] / self.mean))
        return [number for number, _ in scores.most_common(most)]


def mrr(found, right):
    """Returns 1 ÷ the place of the right text among the first ten different ones, or 0."""
    places = list(dict.fromkeys(found))[:ANSWERS]
    return 1 / (places.index(right) + 1) if right in places else 0


class Bench:
    # Beside those that are built in, models in folders: MODELS="multilingual-e5-small".
    MODELS = "multilingual-static-256", "minilm-static-256", *os.environ.get("MODELS", "").split()

    def __init__(self, connection):
        import psycopg
        self.db = psycopg.connect(connection, autocommit=True)
        self.db.execute("LOAD 'chatbot_sync'")
        self.db.execute("SET chatbot_sync.max_chunks = 1000")

    def load(self, chatbot, language, texts):
        metadata = json.dumps({"lang": language})
        with self.db.cursor() as cursor:
            rows = [(chatbot, number, text, metadata) for number, (_, text, _) in enumerate(texts, 1)]
            cursor.executemany("SELECT chatbot_embed_source(%s, 'document', %s, %s, %s::jsonb)", rows)

    def scores(self, chatbot, questions, mode):
        """Returns 1 ÷ the place of the right text, for each question."""
        sql = "SELECT source_id FROM chatbot_search(%s, %s, 200, mode => %s)"
        return [mrr([s for s, in self.db.execute(sql, [chatbot, question, mode])], right) for question, right in questions]

    def plain(self, chatbot, questions):
        chunks = self.db.execute("SELECT source_id, content FROM chatbot_sync.embedding WHERE chatbot_id = %s", [chatbot]).fetchall()
        bm25 = Bm25([content for _, content in chunks])
        return [mrr([chunks[n][0] for n in bm25.best(question, 200)], right) for question, right in questions]

    def processor_time(self, statement, before):
        """Returns the microseconds of the server's processor for a chunk, in the mean of some turns."""
        def used():
            with open(f"/proc/{self.db.info.backend_pid}/stat") as stat:
                user, system = stat.read().rsplit(")", 1)[1].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        turns, took = 5, 0
        for _ in range(turns):
            self.db.execute(before)
            start = used()
            self.db.execute(statement)
            took += used() - start
        chunks, = self.db.execute("SELECT count(*) FROM chatbot_sync.embedding").fetchone()
        return took / turns / chunks * 1e6

    def words(self, sets):
        """Prints for each language of the manual pages how long reading the words of a chunk anew takes, and with Postgres' parser."""
        before = "UPDATE chatbot_sync.source SET chunking[6] = 0; UPDATE chatbot_sync.embedding SET words = ''"
        by_parser = r"""UPDATE chatbot_sync.embedding e SET words = to_tsvector(s.text_search_configs[1]::regconfig,
            translate(e.content, $$'-_/\.:@#$$, '        ')) FROM chatbot_sync.source s WHERE s.source_id = e.source_id"""
        print("\n| words of a chunk, µs of the processor | ours | to_tsvector() | ratio |\n|---|---|---|---|")
        for one in (one for one in sets if one["set"] == "pages"):
            self.clean()
            self.load(1, one["language"], one["texts"])
            ours = self.processor_time("CALL chatbot_sync_all(refresh => true)", before)
            theirs = self.processor_time(by_parser, before)
            print(f"| {one['language']} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |", flush=True)

    def clean(self):
        """Deletes everything that the extension has stored."""
        for chatbot, in self.db.execute("SELECT DISTINCT chatbot_id FROM chatbot_sync.source").fetchall():
            self.db.execute("SELECT chatbot_cleanup(%s)", [chatbot])

    def run(self, sets):
        """Returns {(set, language): {column: a score a question}}, with columns for each model."""
        figures = collections.defaultdict(dict)
        english = next(s for s in sets if (s["set"], s["language"]) == ("sections", "en"))
        places = {key: number for number, (key, *_) in enumerate(english["texts"], 1)}
        for model in self.MODELS:
            self.clean()
            name, _, precision = model.partition("/")
            self.db.execute("SELECT chatbot_set_model('local', %s, options => %s::jsonb)", [name, '{"precision": "int8"}' if precision else "{}"])
            self.load(1, "en", english["texts"])
            for number, one in enumerate(sets, 2):
                self.load(number, one["language"], one["texts"])
                row = figures[one["set"], one["language"]]
                questions = [(question, at) for at, (*_, question) in enumerate(one["texts"], 1) if question]
                row["questions"] = len(questions)
                row[model, "vector"], row[model, "hybrid"] = (self.scores(number, questions, mode) for mode in ("vector", "hybrid"))
                if model == self.MODELS[0]:
                    row["words"], row["plain"] = self.scores(number, questions, "text"), self.plain(number, questions)
                crossed = [(question, places[key]) for question, key in one["english"]]
                if len(crossed) >= 30:
                    row[model, "crossed"] = self.scores(1, crossed, "hybrid")
                print(f"{model} {one['set']} {one['language']}", file=sys.stderr, flush=True)
        return figures


def show(figures):
    both, english, *others = Bench.MODELS
    columns = {"words": "words", "plain BM25": "plain", "vectors": (both, "vector"), "hybrid": (both, "hybrid"),
               "of English text": (both, "crossed"), "vectors, English model": (english, "vector"), "hybrid, English model": (english, "hybrid")}
    for model in others:
        columns |= {f"{what}, {model}": (model, column) for what, column in (("vectors", "vector"), ("hybrid", "hybrid"), ("of English text", "crossed"))}
    def cell(value):
        return "–" if value is None else f"{value:.3f}".removeprefix("0")
    def mean(row, column):
        return statistics.mean(row[column]) if column in row else None
    for name in ("sections", "pages"):
        rows = {language: row for (of, language), row in figures.items() if of == name}
        print(f"\n| {name} | questions | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
        for language, row in rows.items():
            print(f"| {language} | {row['questions']} | {' | '.join(cell(mean(row, column)) for column in columns.values())} |")
        means = []
        for column in columns.values():
            values = [mean(row, column) for language, row in rows.items() if language != "en" and column in row]
            means.append(statistics.mean(values) if values else None)
        print(f"| mean without en | | {' | '.join(map(cell, means))} |", flush=True)
        show_losses("words less than plain BM25 by more than .02", rows, lambda row: ("words", "plain"), 0.02)
        for model in Bench.MODELS:
            better = lambda row: max("words", (model, "vector"), key=lambda half: statistics.mean(row[half]))
            show_losses(f"{model}: hybrid less than its better half by more than .005", rows, lambda row: ((model, "hybrid"), better(row)), 0.005)


def show_losses(what, rows, columns, allowed):
    """Prints where one column is less than another, each with the standard error of the difference."""
    losses = []
    for language, row in rows.items():
        less, more = columns(row)
        differences = [a - b for a, b in zip(row[less], row[more])]
        mean = statistics.mean(differences)
        if mean < -allowed:
            losses.append(f"{language} {mean:.3f} ± {statistics.stdev(differences) / math.sqrt(len(differences)):.3f}")
    print(f"\n{what} (± one standard error):", ", ".join(losses) or "nowhere")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["texts", folder]:
            json.dump(collect(pathlib.Path(folder)), sys.stdout, ensure_ascii=False)
        case ["run", connection, texts]:
            bench, sets = Bench(connection), json.loads(pathlib.Path(texts).read_text())
            # LANGUAGES="de ja" for these alone.
            wanted = os.environ.get("LANGUAGES", "").split()
            sets = [one for one in sets if not wanted or one["language"] in wanted or (one["set"], one["language"]) == ("sections", "en")]
            show(bench.run(sets))
            bench.words(sets)
        case _:
            sys.exit(__doc__)
