"""Rows of CSV, JSON, Parquet and Arrow: the text as it stands there, or an error by line."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from tests.tiegym.data.written import read, write
from tiegym.data import tables
from tiegym.data.corpora import load_corpus


def jsonl(n, row):
    return "".join(json.dumps(row(k)) + "\n" for k in range(n))


def rows(tmp_path, name, content):
    return tables.read_rows(write(tmp_path / name, content))


def refusal(tmp_path, name, content):
    with pytest.raises(ValueError, match=name) as caught:
        load_corpus(str(write(tmp_path / name, content)))
    return str(caught.value)


WORDS = ["zero", "null", "None", "NA", "nan", "NaN", "n/a", "NULL", "true", "1", "-", "", "#N/A"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "ndjson", "parquet", "arrow"])
def test_no_word_stands_for_something_else(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    table = pa.table({"text": WORDS, "label": ["x"] * len(WORDS)})
    if kind in ("csv", "tsv"):
        write(path, "".join(",\t"[kind == "tsv"].join((w, "x")) + "\n" for w in ["text", *WORDS]))
    elif kind == "json":
        write(path, json.dumps(table.to_pylist(), indent=1))
    elif kind == "parquet":
        parquet.write_table(table, path)
    elif kind == "arrow":
        with ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    else:
        write(path, jsonl(len(WORDS), lambda k: {"text": WORDS[k], "label": 1}))
    assert tables.read_rows(path) == [word + "\n" for word in WORDS]


def test_csv_cells_keep_separators_quotes_and_lines(tmp_path):
    content = (
        'text,n\n"a, ""b""\nsecond\u2028line",1\n\nplain,2\r\n' + '"' + "x" * 200_000 + '",3\n'
    )
    assert rows(tmp_path, "a.csv", content) == [
        'a, "b"\nsecond\u2028line\n',
        "plain\n",
        "x" * 200_000 + "\n",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,n\na,1\nb, c,2\n", "line 3 has 3 cells, but the first line names 2"),
        ("n,text\n1,a\n2\n", "line 3 has 1 cells"),
        ('text,n\na,1\n"b,2\n', "line 3: unexpected end of data"),
        ('text,n\n"a"b,1\n', "line 2: ',' expected after"),
        ("id;text;lang\n1;a;en\n", "separated by ';', and not by a comma"),
        ("text,text\na,b\n", "two columns have one name"),
        ("Once upon a time there was a king.\nHe had a dog.\n", "line 1 must name the columns"),
        ("0,Hello\n1,world\n", "line 1 must name the columns, but has '0'"),
        ("", "needs a column 'text'.*none"),
        ("a,b\nx,y\n", "needs a column 'text', or just one .*rename the one.*a, b"),
    ],
)
def test_a_csv_that_is_not_clear_is_refused_by_its_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        rows(tmp_path, "a.csv", content)


def test_the_only_column_of_strings_is_the_text(tmp_path):
    assert rows(tmp_path, "a.csv", "id,content,score\n1,one,0.5\n2,2,\n") == ["one\n", "2\n"]
    assert rows(tmp_path, "b.jsonl", '{"id": 1, "content": "one", "x": [2]}') == ["one\n"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (17, "row 2 of it is a number"),
        ({"body": "x"}, "row 2 of it is an object"),
        (["x"], "row 2 of it is a list"),
        (True, "row 2 of it is true or false"),
    ],
)
def test_a_text_column_of_other_things_never_makes_another_the_corpus(tmp_path, text, what):
    content = jsonl(200, lambda k: {"id": f"doc-{k}", "text": text if k else "fine"})
    message = refusal(tmp_path, "a.jsonl", content)
    assert f"a column 'text', but {what}" in message
    assert "columns id, text" in message


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("values", [[1, 2], [["a"], ["b"]], [{"a": "b"}, None], [b"a", b"b"]])
def test_so_it_is_in_typed_tables(tmp_path, kind, values):
    table = pa.table({"id": ["a", "b"], "text": values})
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        with ipc.new_stream(path, table.schema) as file:
            file.write_table(table)
    with pytest.raises(ValueError, match=r"a column 'text', but its type is .*columns id, text"):
        tables.read_rows(path)


def test_all_of_arrows_strings_are_text(tmp_path):
    for kind in (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
    ):
        table = pa.table({"n": [1, 2], "text": pa.array(["a", "b"], pa.string()).cast(kind)})
        assert tables.lines(table, "it") == ["a\n", "b\n"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda k: {} if k < 150 else {"note": "new"}, id="late"),
        pytest.param(lambda k: {"n": None if k < 150 else {"a": 1}}, id="null first"),
        pytest.param(lambda k: {"n": [1, "a", None, {"a": {}}][k % 4]}, id="mixed types"),
        pytest.param(lambda k: {"n": 10**400}, id="large number"),
        pytest.param(lambda k: {"n": float("inf")}, id="infinity"),
    ],
)
def test_other_columns_never_refuse_json_lines(tmp_path, other):
    content = jsonl(200, lambda k: {"text": f"row {k}", **other(k)})
    assert rows(tmp_path, "a.jsonl", content) == [f"row {k}\n" for k in range(200)]


def test_half_a_character_is_replaced(tmp_path):
    assert rows(tmp_path, "a.jsonl", '{"text": "a \\ud83d end"}\n') == ["a ? end\n"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": "cut o', "read as json: line 2, column 10: Untermin"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2 is no object"),
        ("a.json", '[{"text": "a"},\n "b"]', "entry 2 is no object"),
        ("a.json", '[{"text": "a"},\n{]', "line 2: Expecting property name"),
        (
            "a.json",
            '{"version": "1", "data": [{"text": "a"}]}',
            "one object, not rows: write a list",
        ),
        ("a.jsonl", "[" * 100_000, "line 1 is nested too deeply"),
        ("a.json", '{"text":' * 100_000, "it is nested too deeply"),
        ("a.jsonl", '{"text": null}\n' * 9, "a column 'text', but it is empty"),
        ("a.parquet", "PAR1 and no more", "can't be read as parquet"),
        ("a.arrow", "ARROW1 and no more", "can't be read as arrow"),
        ("b.arrow", "x", "can't be read as arrow"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_line_and_reason(tmp_path, name, content, message):
    found = refusal(tmp_path, name, content)
    assert message in found
    assert name in found


def test_json_lines_may_be_called_json(tmp_path):
    assert rows(tmp_path, "a.json", jsonl(3, lambda k: {"text": f"{k}"})) == ["0\n", "1\n", "2\n"]


def test_a_table_replaced_under_the_same_name_and_time_is_read_anew(tmp_path):
    path = tmp_path / "a.jsonl"
    for tag in ("FIRST", "OTHER"):
        write(path, jsonl(200, lambda k, tag=tag: {"text": f"{tag} row {k}"}))
        os.utime(path, (1, 1))
        assert read(path)["train"].startswith(tag)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["a[1]", "what?", "a*", "x=1", "s3::y"])
def test_a_tables_path_is_that_file_and_no_pattern(tmp_path, kind, name):
    for stem, value in (("a1", "other"), ("ab", "other"), (name, "own")):
        path = tmp_path / f"{stem}.{kind}"
        if kind == "parquet":
            parquet.write_table(pa.table({"text": [value]}), path)
        else:
            write(path, f"text\n{value}\n" if kind == "csv" else json.dumps({"text": value}))
    assert tables.read_rows(path) == ["own\n"]


@pytest.mark.parametrize("offset", [10**9, -5, 5000])
def test_places_in_memory_that_a_file_names_are_checked_before_they_are_read(tmp_path, offset):
    """What lies beyond the file's own bytes would be read, or the process would end."""
    path = tmp_path / "a.arrow"
    with ipc.new_file(path, pa.schema({"text": pa.string()})) as writer:
        writer.write_table(pa.table({"text": ["first", "second", "third!"]}))
    content = path.read_bytes()
    offsets = np.array([0, 5, 11, 17], dtype=np.int32)
    assert content.count(offsets.tobytes()) == 1
    offsets[-1] = offset
    path.write_bytes(
        content.replace(np.array([0, 5, 11, 17], np.int32).tobytes(), offsets.tobytes())
    )
    with pytest.raises(ValueError, match=r"a\.arrow' can't be read as arrow"):
        tables.read_rows(path)


def test_rows_that_each_bring_a_name_of_their_own_are_no_table(tmp_path):
    write(tmp_path / "a.jsonl", "".join(f'{{"k{n}": 1}}\n' for n in range(10_001)))
    with pytest.raises(ValueError, match=r"a\.jsonl'.* 10001 different names; 10000 at most"):
        tables.read_rows(tmp_path / "a.jsonl")
