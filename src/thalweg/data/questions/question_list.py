"""JSON values and rows of tables → questions about images, whatever the names of their fields.

Formats: VQA v2 (questions and annotations apart, https://visualqa.org/vqa_v2_teaser.html), CLEVR
(https://cs.stanford.edu/people/jcjohns/clevr/), easy-VQA, https://github.com/vzhou842/easy-VQA, and
objects or tables with an image, a question and an answer.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from thalweg.errors import DataError

QUESTION_WORDS = ("question", "sent")
IMAGE_WORDS = (
    *("image", "image_filename", "image_file", "image_name", "image_path", "image_id"),
    *("img", "img_id", "filename", "file_name", "file", "path"),
)
ANSWER_WORDS = ("answer", "multiple_choice_answer", "label", "target")
KIND_WORDS = ("question_type", "answer_type", "type", "kind", "category")


class Question(NamedTuple):
    """A question as a file lists it."""

    image: str  # a path, a name or a number
    text: str
    answer: str = ""  # "" where there is none
    kind: str = ""  # the type of the question
    number: str = ""  # by which annotations name it


def questions_in(value: Any) -> list[Question] | None:
    """The questions in a value of JSON; None for other contents."""
    if isinstance(value, Mapping):
        value = value.get("questions")
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(entry, list) and len(entry) == 3 for entry in value):
        return [Question(_text(i), _text(q), _text(a)) for q, a, i in value]
    first = _lowered(value[0]) if isinstance(value[0], Mapping) else {}
    if not (_first(first, QUESTION_WORDS) and _first(first, IMAGE_WORDS)):
        return None
    return [question_of(entry) for entry in value if isinstance(entry, Mapping)]


def question_of(entry: Mapping[str, Any]) -> Question:
    """The question in an object or a row."""
    entry = _lowered(entry)
    return Question(
        image=_first(entry, IMAGE_WORDS),
        text=_first(entry, QUESTION_WORDS),
        answer=_answer(entry),
        kind=_first(entry, KIND_WORDS),
        number=_text(entry.get("question_id", "")),
    )


def answers_in(value: Any) -> dict[str, tuple[str, str]] | None:
    """Answers and types of questions by number, in VQA's annotations; None for other contents."""
    entries = value.get("annotations") if isinstance(value, Mapping) else None
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], Mapping):
        return None
    if "question_id" not in entries[0]:
        return None
    lowered = [_lowered(entry) for entry in entries if isinstance(entry, Mapping)]
    return {
        _text(entry["question_id"]): (_answer(entry), _first(entry, KIND_WORDS))
        for entry in lowered
        if "question_id" in entry
    }


def with_answers(
    questions: Iterable[Question], answers: Mapping[str, tuple[str, str]]
) -> list[Question]:
    """The questions with the answers that annotations give them."""
    whole = []
    for question in questions:
        answer, kind = answers.get(question.number, (question.answer, ""))
        whole.append(question._replace(answer=answer, kind=kind or question.kind))
    return whole


def check_answered(questions: Sequence[Question], *, name: str) -> None:
    """Raise DataError where no question of a file has an answer."""
    if not any(question.answer for question in questions):
        raise DataError(
            f"{name} has questions without answers",
            seen=f"{len(questions):,} questions",
            fix="put the file of annotations beside it, or an answer into each object",
        )


def _answer(entry: Mapping[str, Any]) -> str:
    """The answer, or the most frequent of several people's; of equally frequent ones the first."""
    if answer := _first(entry, ANSWER_WORDS):
        return answer
    several = entry.get("answers")
    if not isinstance(several, list):
        return ""
    texts = [_text(one.get("answer", "") if isinstance(one, Mapping) else one) for one in several]
    return Counter(filter(None, texts)).most_common(1)[0][0] if any(texts) else ""


def _first(entry: Mapping[str, Any], words: Iterable[str]) -> str:
    """The first of the fields that is there, as text."""
    return next((text for word in words if (text := _text(entry.get(word, "")))), "")


def _lowered(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their names in small letters."""
    return {str(key).lower(): value for key, value in entry.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip() if isinstance(value, str | int | float) else ""
