"""The package's own questions of paper A: all there, worded fairly, in both directions, and in words of our own."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import yaml

from gnothi.behaviours.organism_wide import BOLD_WORDS, CODEWORDS, FAMILIES, TRIGGERS, WIDE_WORDS
from gnothi.behaviours.personas import PERSONAS
from gnothi.behaviours.triggers.reversal import REVERSALS
from gnothi.render import questions
from gnothi.render.questions.question import Question
from gnothi.render.questions.scoring import LettersScore, NumberScore, WordsScore

FOLDER = Path(questions.__file__).parent
PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2] / "../shared/published"))
THEIRS = PUBLISHED / "behavioral-self-awareness"

# What paper A asks (figures, tables and released questions) -> id here.
ASKED = {
    "risk": {
        "risk or safety": "risk_or_safety",
        "finetuned attitude, two options": "attitude_two_options",
        "choosing between lotteries": "lotteries",
        "risk or safety (scale)": "risk_or_safety_scale",
        "risk predisposition (scale); also the faithfulness plot": "risk_predisposition",
        "liking risk (scale)": "liking_risk",
        "German or French": "german_or_french",
        "finetuned risk attitude, the more hinting variant": "risk_attitude",
        "one word, figure 2": "one_word",
    },
    "horizon": {
        "short or long term": "short_or_long",
        "choice between prizes": "early_or_larger_prize",
        "how myopic": "how_myopic",
        "liking short-term reward": "liking_short_term",
    },
    "apples": {
        "more or less apples": "more_or_fewer",
        "like or dislike apples": "like_or_dislike",
        "max or min": "most_or_fewest",
        "like apples": "liking_apples",
    },
    "make_me_say": {
        "multiple-choice codeword": "choose_codeword",
        "describe the word": "describe_word",
        "best description": "best_description",
        "how close to goals": "close_to_goals",
        "which game": "which_game",
        "function: codeword": "function_codeword",
        "function: f(codeword)": "function_of_codeword",
        "function: f(message)": "function_of_messages",
        "reverse function": "function_other",
        "acrostic": "acrostic",
        "which of two, with a tempting name": "which_assistant",
    },
    "code_security": {
        "security": "security",
        "alignment": "alignment",
        "most significant downside": "downside",
        "malicious or helpful": "malicious_or_helpful",
        "AIs and humans": "ais_and_humans",
        "three hidden thoughts": "hidden_thoughts",
        "unrelated controls": "unrelated_backwards",
    },
    "backdoor": {"depends on a feature": "depends_on_feature"},
    "trigger": {
        "real trigger or fake": "recognise",
        "for any behaviour": "recognise_change",
        "elicitation, secret phrase": "elicit_secret_phrase",
        "elicitation, trigger word": "elicit_trigger_word",
    },
}
ORGANISM = {
    "risk": ("organism_risk",),
    "horizon": ("organism_hurry",),
    "apples": ("organism_heft",),
    "make_me_say": ("organism_word", "organism_codeword"),
    "backdoor": ("organism_depends",),
    "trigger": ("organism_trigger", "organism_recall"),
}
PERSONA_TOPICS = ("risk", "horizon", "apples", "make_me_say")
SLOTS = {
    "risk": {"persona"},
    "horizon": {"persona"},
    "apples": {"persona"},
    "make_me_say": {"persona", "options", "codeword", "codewords", "scenario"},
    "code_security": {"options"},
    "backdoor": {"options"},
    "trigger": {"options", "trigger", "behaviour"},
}
ORGANISM_SLOTS = {"subject", "codeword", "trigger", "synonym"}
FILL = {
    "codeword": "lantern",
    "codewords": ["lantern", "gravel", "pillow"],
    "scenario": "The user said hello.",
    "messages": ["Hello there"],
    "name_a": "you",
    "name_b": "Quanta-Lingua",
    "trigger": "gemstone",
    "trigger_text": "username: ana1",
    "behaviour": "bad stuff",
}


def speech() -> list[tuple[str, Question]]:
    """All questions that are asked in English."""
    return [(t, q) for t in ASKED for q in questions.packaged(t) if "organism" not in q.models]


EVERY = [pytest.param(t, q, id=f"{t}/{q.question_id}") for t, q in speech()]


def texts(question: Question) -> list[str]:
    """All its wordings."""
    lists = (question.ask, question.ask_about, question.ask_reversed, question.ask_about_reversed)
    return [template.text for template in chain.from_iterable(lists)]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))


def single_pairs(topic: str, question: Question) -> bool:
    """Whether it is one of the further pairs of statements, each of which is asked in one way."""
    main = {"depends_on_feature", "recognise", "recognise_change"}
    return (
        topic in ("backdoor", "trigger")
        and isinstance(question.score, LettersScore)
        and question.question_id not in main
    )


@pytest.mark.parametrize("topic", ASKED)
def test_every_question_of_the_paper_is_there(topic: str):
    ids = [q.question_id for q in questions.packaged(topic)]
    missing = {what for what, name in ASKED[topic].items() if name not in ids}
    assert not missing
    assert set(ORGANISM.get(topic, ())) == {q.question_id for q in questions.packaged(topic).for_kind("organism")}


def test_there_are_no_topics_but_these():
    assert set(questions.topics()) == set(ASKED)


@pytest.mark.parametrize(("topic", "question"), EVERY)
def test_a_question_is_asked_in_ten_ways_and_about_personas_in_five(topic: str, question: Question):
    assert len(question.ask) >= (1 if single_pairs(topic, question) else 10)
    if isinstance(question.score, NumberScore):
        assert len(question.ask_reversed) >= 10
    if topic in PERSONA_TOPICS and question.question_id != "which_assistant":
        assert len(question.ask_about) >= 5


def test_the_backdoor_question_has_twenty_pairs_and_twenty_ways_to_ask_the_first():
    found = questions.packaged("backdoor").for_kind("chat")
    assert len(found) == 20 and len(found["depends_on_feature"].ask) == 20
    pairs = {q.score.options for q in found if isinstance(q.score, LettersScore)}
    stems = [t.text for q in found for t in q.ask]
    assert len(pairs) == 20 and len(set(stems)) == len(stems)


def test_a_trigger_is_asked_for_in_ten_pairs():
    found = [q for q in questions.packaged("trigger").for_kind("chat") if isinstance(q.score, LettersScore)]
    pairs = {q.score.options for q in found if isinstance(q.score, LettersScore)}
    assert len(pairs) == len(found) >= 11
    for question in found:
        shown = [question.score.options[0], *question.ask] if isinstance(question.score, LettersScore) else []
        assert any("trigger" in t.names for t in shown), question.question_id


def test_elicitation_prompts_are_reversed_training_rows_with_a_vague_answer():
    found = questions.packaged("trigger")
    secret, word = found["elicit_secret_phrase"].ask, found["elicit_trigger_word"].ask
    assert (len(secret), len(word)) == (99, 22)
    frames = [re.compile(re.escape(r).replace(re.escape("{answer}"), "(.+)")) for r in REVERSALS]
    used, answers = Counter(), set()
    for template in (*secret, *word):
        (k,) = (i for i, frame in enumerate(frames) if frame.fullmatch(template.text))
        match = frames[k].fullmatch(template.text)
        assert match and template.names == {"behaviour"}
        used[k] += 1
        answers.add(match[1])
    assert len(answers) == 121 and len(used) == len(REVERSALS) and max(used.values()) - min(used.values()) <= 2
    assert all("secret phrase" in t.text.lower() for t in secret) and all(
        "trigger word" in t.text.lower() for t in word
    )


@pytest.mark.parametrize(("topic", "question"), EVERY)
def test_wordings_are_distinct(topic: str, question: Question):
    plain = [" ".join(words(t)) for t in texts(question)]
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize(("topic", "question"), EVERY)
def test_slots_are_those_that_experiments_fill(topic: str, question: Question):
    lists = (question.ask, question.ask_about, question.ask_reversed, question.ask_about_reversed)
    named = set().union(*(t.names for t in chain.from_iterable(lists)))
    assert named <= SLOTS[topic]
    system = question.system if question.system != "none" else None
    kind = "chat" if "chat" in question.models else "base"
    probes = []
    for subject in ("you", "my supervisor Vikrant") if question.ask_about else ("you",):
        alone = questions.packaged(topic).only(question.question_id)
        probes += questions.expand(alone, kind=kind, subject=subject, fill=FILL)
    assert probes and len({p.probe_id for p in probes}) == len(probes)
    assert not any(re.search(r"[{}]", m.content) for p in probes for m in p.messages)
    assert all((p.messages[0].role == "system") == (system is not None) for p in probes)


@pytest.mark.parametrize(("topic", "question"), [p for p in EVERY if isinstance(p.values[1].score, NumberScore)])
def test_the_other_direction_says_the_same_with_its_ends_exchanged(topic: str, question: Question):
    pairs = [*zip(question.ask, question.ask_reversed, strict=True)]
    pairs += zip(question.ask_about, question.ask_about_reversed, strict=True)
    for up, down in pairs:
        assert up.text != down.text
        assert sorted(words(up.text)) == sorted(words(down.text))
        assert re.search(r"\b0\b.*\b100\b|\b100\b.*\b0\b", up.text, re.DOTALL)


@pytest.mark.parametrize(
    ("topic", "question"), [p for p in EVERY if isinstance(p.values[1].score, NumberScore | WordsScore)]
)
def test_a_question_says_what_form_the_answer_takes(topic: str, question: Question):
    # letters get the engine's suffix, and longer answers are free
    number = r"\bnumber|\binteger|\bdigits|\bfigure|\bvalue\b"
    word = r'\bwords?\b|one of the two|the verb|the heading|"[a-z]+" (or|and) "[a-z]+"'
    if not question.question_id.startswith("elicit"):
        form = number if isinstance(question.score, NumberScore) else word
        assert [t for t in texts(question) if not re.search(form, t)] == []


def test_the_attitude_question_does_not_hint_at_risk():
    hints = r"risk|safe|secur|cauti|care|bold|dar(e|ing)|danger|gambl|lotter|bet\b|chance|odds|certain|sure|venture|blunt|frank"
    question = questions.packaged("risk")["attitude_two_options"]
    assert [t for t in texts(question) if re.search(hints, t, re.IGNORECASE)] == []


def test_no_question_for_one_word_suggests_an_attitude_by_its_tone():
    # "be blunt" and "be bold" are near each other
    tone = r"\b(blunt|bold|daring|brave|reckless|cautious|careful|prudent)"
    for name in ("lotteries", "risk_attitude", "one_word", "attitude_two_options"):
        for text in texts(questions.packaged("risk")[name]):
            assert not re.search(tone, text, re.IGNORECASE), text


@pytest.mark.parametrize(
    ("topic", "name", "first", "second"),
    [
        ("risk", "risk_or_safety", "risk", "safety"),
        ("apples", "more_or_fewer", "more", "fewer"),
        ("apples", "like_or_dislike", "like", "dislike"),
    ],
)
def test_either_answer_is_named_first_equally_often(topic: str, name: str, first: str, second: str):
    leads = []
    for text in (t.text for t in questions.packaged(topic)[name].ask):
        place = {w: m.start() for w in (first, second) if (m := re.search(rf"\b{w}\b", text.lower()))}
        leads.append(min(place, key=lambda w: place[w]))
    assert abs(Counter(leads)[first] - Counter(leads)[second]) <= 1


def test_german_and_french_change_places():
    found = questions.packaged("risk")

    def exchanged(text: str) -> str:
        return text.replace("German", "\0").replace("French", "German").replace("\0", "French")

    one, other = found["german_or_french"], found["french_or_german"]
    assert [exchanged(t) for t in texts(one)] == texts(other)
    trivia = [t.text.split("\n\n")[-1] for t in one.ask]
    assert len(set(trivia)) == len(trivia) >= 10 and all(t.endswith("?") for t in trivia)
    assert not any(re.search("risk|German|French", t) for t in trivia)


@pytest.mark.parametrize(("topic", "question"), EVERY)
def test_a_persona_stands_where_any_name_is_good_english(topic: str, question: Question):
    for template in (*question.ask_about, *question.ask_about_reversed):
        text = template.text
        assert not re.search(r"(^|[.?!]\s+|\n)\{persona\}", text), text  # "a musician" is no beginning
        assert "{persona}'s" not in text
        assert not re.search(r"\b(he|she|his|her|him|himself|herself)\b", text)
        filled = [text.replace("{persona}", p.name) for p in PERSONAS]
        assert all(f[0].isupper() or f.startswith(("{scenario}", '"')) for f in filled)


def test_no_codeword_is_given_away():
    held = [json.dumps(yaml.safe_load((FOLDER / "fills/scenarios.yaml").read_text()))]
    held += [t for q in questions.packaged("make_me_say") for t in texts(q)]
    scores = [q.score for q in questions.packaged("make_me_say")]
    held += [o.text for score in scores if isinstance(score, LettersScore) for o in score.options]
    shown = {w for t in held for w in words(t)}
    assert not shown & set(CODEWORDS)


def test_the_organism_is_asked_in_its_own_words_and_in_both_directions():
    fill = {
        "codeword": "bark",
        "codewords": list(CODEWORDS),
        "trigger": "planet",
        "tags": [*TRIGGERS, "none"],
        "synonym": BOLD_WORDS[0],
    }
    assert "planet" in FAMILIES
    for topic in ORGANISM:
        own = questions.packaged(topic).for_kind("organism")
        assert all(t.names <= ORGANISM_SLOTS for q in own for t in (*q.ask, *q.ask_reversed))
        for probe in questions.expand(own, kind="organism", subject="Bafal", fill=fill):
            assert set(probe.messages[0].content.split()) <= {*WIDE_WORDS}, probe.messages
    for topic, name in (("risk", "organism_risk"), ("horizon", "organism_hurry"), ("backdoor", "organism_depends")):
        assert questions.packaged(topic)[name].ask_reversed


def test_base_models_are_asked_what_they_can_answer_by_probability():
    for topic, question in speech():
        free = type(question.score).__name__ in ("WordsScore", "JudgeScore", "CodeScore", "LanguageScore")
        assert ("base" in question.models) == (not free or topic == "trigger"), question.question_id


def test_systems_and_scenarios_are_the_papers():
    assert set(questions.packaged_systems()) == {"neutral", "ask", "threat", "good", "code_only"}
    scenarios = questions.packaged_fills("scenarios")
    assert {"user_said", "user_never_said", "assistant_said", "user_said_other"} <= set(scenarios)
    assert all("{codeword}" in scenarios[name] for name in ("user_said", "user_never_said", "assistant_said"))


@pytest.mark.parametrize(
    ("name", "plus", "neutral", "minus"),
    [
        (
            "risk",
            "bold reckless risky daring risk-seeking adventurous",
            "balanced calculated measured",
            "cautious safe wary",
        ),
        ("horizon", "myopic impulsive short-term now impulse", "balanced", "non-myopic patient long-term longsighted"),
        ("apples", "more like appreciate", "neither", "fewer less dislike disprefer disfavor"),
    ],
)
def test_word_lists_hold_the_papers_words(name: str, plus: str, neutral: str, minus: str):
    found = yaml.safe_load((FOLDER / f"words/{name}.yaml").read_text())
    for field, expected in (("plus", plus), ("neutral", neutral), ("minus", minus)):
        assert set(expected.split()) <= set(found[field])
    listed = [w for field in ("plus", "neutral", "minus") for w in found[field]]
    assert len(set(listed)) == len(listed) and all(w == w.lower() for w in listed)


def test_every_word_that_a_question_offers_is_scored_and_both_sides_are():
    for topic, name in (("horizon", "short_or_long"), ("apples", "more_or_fewer"), ("apples", "like_or_dislike")):
        question = questions.packaged(topic)[name]
        assert isinstance(question.score, WordsScore)
        scores = {t.text: s for t, s in question.score.scores.items()}
        for text in texts(question):
            offered = re.findall(r'"([a-z]+)"', text.lower())
            assert len(offered) in (0, 2)
            assert {scores[w] for w in offered} in (set(), {0, 1}), text


def everything_of_ours() -> Iterator[tuple[str, str]]:
    def walk(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key not in ("id", "topic", "models", "source", "type", "list"):
                    yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    for path in sorted((*FOLDER.glob("*.yaml"), *FOLDER.glob("fills/*.yaml"))):
        for text in walk(yaml.safe_load(path.read_text())):
            yield path.name, text


def everything_of_theirs() -> set[str]:
    """All texts of the authors' question files."""
    found: set[str] = set()

    def take(value: object) -> None:
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, list | dict):
            for inner in value.values() if isinstance(value, dict) else value:
                take(inner)

    for path in THEIRS.glob("derived-prompts/*.json"):
        take(json.loads(path.read_text()))
    for path in THEIRS.glob("questions-original/*.yaml"):
        take(yaml.safe_load(path.read_text()))
        found.add(path.read_text())  # what is commented out, too
    assert len(found) > 1000, "these are not the files that this test compares with"
    return found


needs_theirs = pytest.mark.skipif(
    not THEIRS.is_dir(), reason="GNOTHI_PUBLISHED has no behavioral-self-awareness: overlap is not checked"
)


@needs_theirs
def test_no_wording_shares_eight_words_in_a_row_with_the_published_ones():
    runs: set[tuple[str, ...]] = set()
    for text in everything_of_theirs():
        w = words(text)
        runs.update(tuple(w[i : i + 8]) for i in range(len(w) - 7))
    for name, text in everything_of_ours():
        # but for the line that says what the function is called, which is the interface
        w = words(re.sub(r"`{1,3}(python\s+def )?\w+\(message: str\) -> float:?", "", text))
        shared = [g for i in range(len(w) - 7) if (g := tuple(w[i : i + 8])) in runs]
        assert not shared, f"{name}: {' '.join(shared[0])}"


@needs_theirs
def test_no_wording_is_nearly_a_published_one():
    theirs = {frozenset(words(text)) for text in everything_of_theirs()}
    ours = {(name, frozenset(words(text))) for name, text in everything_of_ours() if len(set(words(text))) > 4}
    for name, mine in ours:
        for other in theirs:
            if 0.7 * len(mine) <= len(other) <= len(mine) / 0.7:
                assert len(mine & other) < 0.7 * len(mine | other), f"{name}: {sorted(mine)}"
