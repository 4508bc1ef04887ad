"""The section on the mistakes where a sample may have several labels: each label, worst samples."""

from thalweg.report.class_table import class_table
from thalweg.report.confusion import mistakes
from thalweg.report.facts import SPLITS, Facts
from thalweg.report.gallery import gallery
from thalweg.report.label_scores import label_scores
from thalweg.report.tag import section
from thalweg.wording import count


def labels_section(facts: Facts) -> str:
    """The mistakes on the test or the validation split; "" without predictions."""
    if not facts.predictions:
        return ""
    wrong = mistakes(facts.predictions)
    scores = label_scores(facts.predictions, facts.classes)
    ordered = sorted(scores, key=lambda s: (s.f1 if s.samples else 2.0, s.name))
    body = (
        f"<p>{count(len(wrong))} of {count(len(facts.predictions))} {SPLITS[facts.split]} samples "
        "have a label too many or too few.</p><h3>Each label, the weakest first</h3>"
        f"{class_table(ordered, noun='label')}{gallery(wrong)}"
    )
    return section("errors", "Where it errs", body)
