"""Questions: SQuAD's form and others, windows of long contexts, the spans that are measured."""

import json
import math

import datasets
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from tests.tiegym.data.written import write
from tiegym.data.tasks import squad
from tiegym.data.tasks.load import load_task
from tiegym.data.tasks.question_answering import answer_tokens, best_span, first_tokens

CPU = torch.device("cpu")


def rows(n, tag=""):
    """Questions about a word at another place each time."""
    made = []
    for k in range(n):
        context = f"{tag}{'so ' * (k % 7)}number {k} is word{k} and no other, as all of us know."
        made.append((f"What is number {k}?", context, f"word{k}", context.index(f"word{k}")))
    return made


def squad_form(questions):
    return {
        "version": "1.1",
        "data": [
            {
                "title": "T",
                "paragraphs": [
                    {
                        "context": context,
                        "qas": [
                            {
                                "id": f"{number}",
                                "question": question,
                                "answers": [{"text": text, "answer_start": start}] * 2,
                            }
                        ],
                    }
                    for number, (question, context, text, start) in enumerate(questions)
                ],
            }
        ],
    }


def hub_columns(questions):
    return {
        "id": [str(k) for k in range(len(questions))],
        "question": [q for q, *_ in questions],
        "context": [c for _, c, *_ in questions],
        "answers": [{"text": [t, t.upper()], "answer_start": [s, s]} for *_, t, s in questions],
    }


SQUAD = datasets.Features(
    {name: datasets.Value("string") for name in ("id", "question", "context")}
    | {
        "answers": datasets.Sequence(
            {"text": datasets.Value("string"), "answer_start": datasets.Value("int32")}
        )
    }
)
"""Its columns on the hub."""


def flat(questions):
    names = ("question", "context", "answer_text", "answer_start")
    return [dict(zip(names, q, strict=True)) for q in questions]


@pytest.mark.parametrize("kind", ["squad", "csv", "jsonl", "json", "parquet", "answers"])
def test_files_of_each_form_hold_the_same_questions(tmp_path, kind):
    for split, n in (("train", 30), ("dev", 4), ("test", 5)):
        asked, path = rows(n, f"{split} "), tmp_path / split
        if kind == "squad":
            write(path.with_suffix(".json"), json.dumps(squad_form(asked)))
        elif kind == "csv":
            lines = [",".join(f'"{cell}"' for cell in q) for q in asked]
            header = "question,context,answer_text,answer_start"
            write(path.with_suffix(".csv"), "\n".join([header, *lines]))
        elif kind == "jsonl":
            write(path.with_suffix(".jsonl"), "\n".join(map(json.dumps, flat(asked))))
        elif kind == "json":
            write(path.with_suffix(".json"), json.dumps(flat(asked)))
        elif kind == "parquet":
            parquet.write_table(pa.Table.from_pylist(flat(asked)), path.with_suffix(".parquet"))
        else:
            parquet.write_table(pa.table(hub_columns(asked)), path.with_suffix(".parquet"))
    found = squad.read(str(tmp_path))
    for split, tag, n in (("train", "train", 30), ("validation", "dev", 4), ("test", "test", 5)):
        assert [(q.question, q.context, q.answers[0], q.start) for q in found[split]] == rows(
            n, f"{tag} "
        )


def test_squad_by_name_has_its_validation_split_as_test_and_whole_contexts(serve):
    asked = [(f"{q} {n}", *rest) for q, *rest in rows(40, "train ") for n in range(3)]
    served = serve(SQUAD, train=hub_columns(asked), validation=hub_columns(rows(6, "dev ")))
    found = squad.read("squad")
    assert served == [("rajpurkar/squad", None)]
    assert {q.context.split()[0] for q in found["test"]} == {"dev"}
    assert found["test"][1].answers == ("word1", "WORD1")
    assert len(found["validation"]) == 6
    assert not {q.context for q in found["train"]} & {q.context for q in found["validation"]}


def test_without_a_network_the_error_says_what_to_bring(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "none")
    monkeypatch.setattr("tiegym.data.hub.is_reachable", lambda: False)
    with pytest.raises(OSError, match=r"corpus='squad' could not be loaded.*SQuAD's JSON form"):
        load_task("question-answering", "squad")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": []}, "question 1 has no answer. Questions without, as in SQuAD 2.0"),
        ({"answers": None}, "question 1: it needs an entry 'answers' that is a list"),
        ({"question": 3}, "question 1: it needs an entry 'question' that is a string"),
        ({"answers": [{"text": "word0"}]}, "an entry 'answer_start' that is a number"),
        (
            {"answers": [{"text": "word0", "answer_start": 3}]},
            "the answer 'word0' doesn't stand at",
        ),
        ({"answers": [{"text": "word0", "answer_start": 1.5}]}, "needs answer_start, the number"),
        ({"answers": [{"text": "", "answer_start": 1}]}, "has no answer"),
    ],
)
def test_squads_form_with_something_wrong(tmp_path, change, message):
    value = squad_form(rows(5))
    value["data"][0]["paragraphs"][0]["qas"][0].update(change)
    with pytest.raises(ValueError, match=message):
        squad.read(str(write(tmp_path / "a.json", json.dumps(value))))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer_text": None}, "row 2 has no answer"),
        ({"answer_start": None}, "row 2: its answer needs answer_start"),
        ({"answer_start": True}, "row 2: its answer needs answer_start"),
        ({"answer_start": 10**6}, "doesn't stand at character 1000000"),
        ({"answer_start": -40}, "doesn't stand at character -40"),
        ({"context": None}, "column 'context': row 2 is missing"),
    ],
)
def test_rows_with_something_wrong(tmp_path, row, message):
    made = flat(rows(5))
    made[1].update(row)
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, made)))
    with pytest.raises(ValueError, match=message):
        squad.read(str(path))


def test_columns_that_are_missing(tmp_path):
    path = write(tmp_path / "a.csv", "question,context,answer\na,b,b\n")
    with pytest.raises(
        ValueError, match=r"needs the columns .*it has the columns question, context,"
    ):
        squad.read(str(path))


def test_damaged_json_is_an_error(tmp_path):
    for content in ('{"data": [', '{"data": 3}', "[" * 100_000, '{"version": "1"}'):
        with pytest.raises(ValueError, match=r"needs an entry 'data'|can't be read as json"):
            squad.read(str(write(tmp_path / "a.json", content)))


def test_an_answer_that_is_two_characters_off_is_mended(tmp_path):
    made = [(q, c, t, s + 2) for q, c, t, s in rows(30)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, flat(made))))
    assert {
        q.context[q.start :].startswith(q.answers[0]) for q in squad.read(str(path))["train"]
    } == {True}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Contexts of about 60 bytes in rows of 48: two windows for most."""
    path = tmp_path_factory.mktemp("questions") / "a.jsonl"
    write(path, "\n".join(map(json.dumps, flat(rows(60)))))
    return load_task("question-answering", str(path), block_size=48)


def perfect(targets, size):
    """What a transformer would say that knows the targets; less sure where there is no answer."""
    sure = torch.where(targets[:, :1] == 0, 5.0, 50.0)
    one_hot = torch.nn.functional.one_hot(targets[:, :2], size) * sure[..., None]
    return {"start_logits": one_hot[:, 0], "end_logits": one_hot[:, 1]}


def test_targets_are_where_the_answer_stands(task):
    n_answers = 0
    for inputs, targets in task.data(CPU).batches("train", 16):
        for ids, (start, end, number) in zip(inputs["input_ids"], targets.tolist(), strict=True):
            if start:
                question = task.questions[task.windows[number].question]
                answer = task.tokenizer.decode(ids[start : end + 1])
                assert answer == question.answers[0]
                n_answers += 1
            else:
                assert end == 0
    assert n_answers >= task.n_rows["train"] / 3


def test_windows_of_a_context_hold_all_of_it(task):
    inputs, targets = next(iter(task.data(CPU).batches("test", 64)))
    seen: dict[int, set[int]] = {}
    for number in targets[:, 2].tolist():
        window = task.windows[number]
        seen.setdefault(window.question, set()).update(o[0] for o in window.offsets)
    for number, characters in seen.items():
        assert characters == set(range(len(task.questions[number].context)))
    assert max(seen) - min(seen) + 1 == len(seen)
    assert inputs["input_ids"].shape[1] == 48


def test_one_who_knows_the_targets_answers_everything_right(task):
    scores = task.metrics()
    for _, targets in task.data(CPU).batches("test", 4):
        scores.add(perfect(targets, 48), targets)
    assert scores.figures() == {"exact_match": 1, "f1": 1}
    wrong = task.metrics()
    for _, targets in task.data(CPU).batches("test", 4):
        shifted = torch.where(targets[:, :2] > 0, targets[:, :2] - 1, 0)
        wrong.add(perfect(torch.cat([shifted, targets[:, 2:]], 1), 48), targets)
    assert wrong.figures()["exact_match"] == 0


def test_a_limit_counts_questions_with_all_of_their_windows(task):
    everything = torch.cat([t for _, t in task.data(CPU).batches("train", 64)])[:, 2].tolist()
    some = torch.cat([t for _, t in task.data(CPU).batches("train", 3, limit=5)])[:, 2].tolist()
    chosen = {task.windows[number].question for number in some}
    assert len(chosen) == 5
    assert some == [n for n in everything if task.windows[n].question in chosen]
    assert len(some) > 5


def test_the_loss_is_the_mean_of_start_and_end(task):
    targets = torch.tensor([[3, 5, 0], [0, 0, 1]])
    even = {"start_logits": torch.zeros(2, 48), "end_logits": torch.zeros(2, 48)}
    assert task.loss(even, targets) == pytest.approx(task.uniform_loss)
    assert task.uniform_loss == math.log(48)
    even["start_logits"] = torch.nn.functional.one_hot(targets[:, 0], 48) * 100.0
    assert task.loss(even, targets) == pytest.approx(task.uniform_loss / 2)
    assert task.count(targets) == 2


def test_the_best_span_is_the_best_of_all_that_are_allowed():
    draws = torch.Generator().manual_seed(0)
    for longest in (1, 3, 20):
        for _ in range(20):
            start, end = torch.randn((2, 9), generator=draws)
            pairs = [(i, j) for i in range(9) for j in range(i, min(9, i + longest))]
            expected = max(pairs, key=lambda pair: start[pair[0]] + end[pair[1]])
            score, *found = best_span(start, end, longest)
            assert tuple(found) == expected
            assert score == pytest.approx(float(start[found[0]] + end[found[1]]))


def test_tokens_of_an_answer_cover_it():
    offsets = [(0, 3), (3, 7), (7, 9), (9, 10), (9, 10), (11, 15)]
    assert answer_tokens(offsets, 3, "four") == (1, 1)
    assert answer_tokens(offsets, 4, "our") == (1, 1)
    assert answer_tokens(offsets, 4, "our tw") == (1, 4)
    assert answer_tokens(offsets, 9, "é") == (3, 4)
    assert answer_tokens(offsets, 11, "last") == (5, 5)


def test_windows_overlap_by_half_and_the_last_is_full():
    assert first_tokens(10, 4) == [0, 2, 4, 6]
    assert first_tokens(11, 4) == [0, 2, 4, 6, 7]
    assert first_tokens(4, 4) == first_tokens(1, 4) == [0]
    for total in range(1, 40):
        for width in range(1, 10):
            starts = first_tokens(total, width)
            assert set().union(*(range(s, s + width) for s in starts)) >= set(range(total))


def test_a_question_takes_at_most_half_of_the_room(tmp_path):
    made = [("why " * 40, c, t, s) for _, c, t, s in rows(30)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, flat(made))))
    task = load_task("question-answering", str(path), block_size=43)
    inputs, _ = next(iter(task.data(CPU).batches("train", 4)))
    assert (inputs["token_type_ids"].sum(1) == 20 + 1).all()
    with pytest.raises(ValueError, match="block_size=6 has no room for a question and a context"):
        load_task("question-answering", str(path), block_size=6)
