"""Genotypes: published ones, their forms, and what is wrong with a malformed one."""

import json

import pytest

from darts_hpc.space.genotypes import FIELDS, GENOTYPES, PRIMITIVES, Genotype, load_genotype, parse_genotype

DARTS_V2_TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def changed(**fields) -> dict:
    return {**GENOTYPES["DARTS"].to_dict(), **fields}


def test_darts_is_the_second_order_cell_of_the_paper():
    assert parse_genotype(DARTS_V2_TEXT) == GENOTYPES["DARTS_V2"] == GENOTYPES["DARTS"]


@pytest.mark.parametrize("name", GENOTYPES)
def test_every_published_cell_survives_text_and_json(name):
    genotype = GENOTYPES[name]
    assert parse_genotype(str(genotype)) == genotype
    assert parse_genotype(genotype.to_json()) == genotype
    assert parse_genotype(str(genotype.to_dict())) == genotype


def test_pairs_nested_per_node_are_read_as_pt_darts_prints_them():
    nested = changed(normal=[GENOTYPES["DARTS"].to_dict()["normal"][i : i + 2] for i in range(0, 8, 2)])
    assert parse_genotype(json.dumps(nested)) == GENOTYPES["DARTS"]


def test_range_and_positional_forms_are_read():
    darts = GENOTYPES["DARTS"]
    text = f"Genotype({list(darts.normal)}, range(2, 6), {list(darts.reduce)}, list(range(2, 6)))"
    assert parse_genotype(text) == GENOTYPES["DARTS"]


def test_text_is_never_evaluated(tmp_path):
    victim = tmp_path / "made"
    with pytest.raises(ValueError, match="not a list of values"):
        parse_genotype(
            DARTS_V2_TEXT.replace("[2, 3, 4, 5], ", f"__import__('pathlib').Path({str(victim)!r}).touch(), ")
        )
    assert not victim.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{'normal': ", "not valid JSON"),
        ("Genotype(normal=[", "neither JSON nor"),
        ("print('hello')", "neither JSON nor"),
        ("[1, 2]", "must be a mapping"),
        (json.dumps({"normal": []}), "no 'normal_concat'"),
        (changed(normal=[["sep_conv_3x3", 0]]), "1 edges; every node takes two"),
        (changed(normal=[["sep_conv_3x4", 0], ["skip_connect", 1]]), "did you mean sep_conv_3x3"),
        (changed(normal=[["sep_conv_3x3", 0], ["skip_connect", 2]]), "can't read state 2; it sees states 0 to 1"),
        (changed(normal=[["sep_conv_3x3", True], ["skip_connect", 1]]), "expected an .operation, input. pair"),
        (changed(normal_concat=[2, 2]), "distinct states between 2 and 5"),
        (changed(reduce_concat=[6]), "distinct states between 2 and 5"),
        (changed(reduce_concat="2345"), "expected a list of state numbers"),
        (changed(reduce="x"), "expected a list of .operation, input. pairs"),
    ],
)
def test_a_malformed_genotype_gets_one_line_that_says_what_is_wrong(source, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_genotype(source)
    assert "\n" not in str(error.value)


TEXT = str(GENOTYPES["DARTS_V2"])
NUMPY = TEXT.replace(", 0)", ", np.int64(0))").replace(", 1)", ", numpy.int32(1))")
FILE = f"# {TEXT[:20]}\nfrom collections import namedtuple\nGenotype = namedtuple('Genotype', 'normal reduce')\n"
REST = {"normal_concat": [], "reduce": [], "reduce_concat": []}


@pytest.mark.parametrize(
    "text",
    [
        f"genotype = {TEXT}",
        f"05/23 10:11:12 AM genotype = {TEXT}",
        f"2024-01-05 12:30:45,123 INFO epoch 49 {TEXT} (final)",
        f"\ufeff{TEXT}\n",
        f"{FILE}MINE = {TEXT}\n",
        f"{FILE}MINE = genotypes.{TEXT}  # the best of four\nSAME = {TEXT}\n",
        NUMPY,
        f"genotype = {NUMPY}",
        TEXT.replace("range(2, 6)", "tuple(range(2, 6))"),
        TEXT.replace("range(2, 6)", "list(range(2, 6, 1))"),
        TEXT.replace("range(2, 6)", "np.array([2, 3, 4, 5])").replace(", 0)", ", tensor(0))"),
        f'BEST = """{TEXT}"""  # as printed',
        f"[2026-11-28 10:00:00,123][INFO] genotype = {TEXT}",
        f"{{rank 0}} {TEXT}",
        f"[{TEXT}]",
        f"{{'genotype': {TEXT}, 'accuracy': 97.2}}",
        TEXT.replace("range(2, 6)", "np.array([2, 3, 4, 5], dtype=np.int64)"),
        TEXT.replace("range(2, 6)", "[*range(2, 6)]").replace("'sep_conv_3x3'", "np.str_('sep_conv_3x3')"),
        TEXT.replace("range(2, 6)", "np.arange(2, 6)"),
        json.dumps({"genotype": GENOTYPES["DARTS_V2"].to_dict()}),
        json.dumps({"genotype": TEXT}),
        json.dumps({"status": "finished", "genotype": GENOTYPES["DARTS_V2"].to_dict(), "epochs": 50}, indent=1),
        "".join(json.dumps({"epoch": e, "genotype": GENOTYPES[n].to_dict()}) + "\n"
                for e, n in enumerate(("DARTS_V1", "DARTS_V2"))),
        f"\ufeff{json.dumps(GENOTYPES['DARTS_V2'].to_dict())}",
    ],
)  # fmt: skip
def test_a_genotype_is_read_as_people_have_it(text, tmp_path):
    assert parse_genotype(text) == GENOTYPES["DARTS_V2"]
    (tmp_path / "cell").write_text(text, encoding="utf-8")
    assert load_genotype(str(tmp_path / "cell")) == GENOTYPES["DARTS_V2"]
    if "normal=" in text or text.startswith(("{", "\ufeff")):
        assert load_genotype(text) == GENOTYPES["DARTS_V2"]


NNI = {"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": [0]}
OLD_NNI = {"normal_n2_p0": "sepconv3x3", "normal_n2_switch": ["normal_n2_p0"]}
HOLDS_ITSELF = {}
HOLDS_ITSELF["genotype"] = HOLDS_ITSELF
CONFIGSPACE = {"NetworkSelectorDatasetInfo:darts:edge_normal_0": "sep_conv_3x3"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (TEXT.replace("range(2, 6)", "range(-1000000000, 3)"), "is not a list of values, or a range up to"),
        (TEXT.replace("range(2, 6)", "range(2, 6, 0)"), "is not a list of values"),
        ({"normal": [["skip_connect", 0]] * 20_000_000, **REST}, "normal: expected a list of"),
        ("Genotype(normal=[" + "('skip_connect', 0), " * 1_000_000 + "])", "characters; expected at most"),
        ("{[1]: 2}", "not valid JSON"),
        ("{1, 2}", "must be a mapping"),
        ("[" * 100_000, "nested too deeply"),
        ("{'a':" * 50_000, "not valid JSON"),
        ("Genotype(" * 50_000, "neither JSON nor"),
        ("Genotype(normal=" + "(" * 50_000, "neither JSON nor"),
        ('{"normal": ' + "9" * 5000 + "}", "not valid JSON"),
        ("null", "neither JSON nor"),
        ('"text"', "neither JSON nor"),
        (f"A = {TEXT}\nB = {GENOTYPES['DARTS_V1']}", "2 different ones"),
        (NNI, "this is NNI's choice"),
        (json.dumps(OLD_NNI), "this is NNI's choice"),
        (CONFIGSPACE, "this is ConfigSpace's"),
        ({"config": CONFIGSPACE, "accuracy": 94.0}, "this is ConfigSpace's"),
        ('10:11 best Genotype("(") + 3', "neither JSON nor"),
        (f"Genotype(normal={'1+' * 900}1)", "is not a list of values|nested too deeply"),
        (f"Genotype(normal={'-' * 1500}1)", "is not a list of values|nested too deeply|neither JSON"),
        (f"Genotype(normal=a{'.b' * 900})", "is not a list of values|nested too deeply"),
        (TEXT.replace("sep_conv_3x3", "x" * 100_000), "unknown operation"),
        (TEXT.replace("range(2, 6)", str(list(range(50_000)))), "must be distinct states"),
        (TEXT.replace("range(2, 6)", "[*3]"), "is no list"),
        (HOLDS_ITSELF, "must be a mapping|has no"),
    ],
)  # fmt: skip
def test_what_is_no_genotype_is_one_short_line_at_once(source, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_genotype(source)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"\x00" * 100])
def test_a_file_that_is_no_text_is_one_line(content, tmp_path):
    (tmp_path / "cell").write_bytes(content)
    with pytest.raises(ValueError, match=r"cell(:| is not UTF-8)") as error:
        load_genotype(str(tmp_path / "cell"))
    assert "\n" not in str(error.value)


def test_a_path_that_no_file_can_have_is_one_line():
    with pytest.raises(ValueError, match=r"File name too long.*expected a file or folder"):
        load_genotype("x" * 5000)


def test_a_name_in_another_case_is_suggested():
    with pytest.raises(ValueError, match="did you mean DARTS_V2"):
        load_genotype("darts_v2")


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean DARTS_V1"):
        load_genotype("DARTS_W1")


def test_files_and_run_folders_load_and_their_faults_are_named(tmp_path):
    genotype = GENOTYPES["PDARTS"]
    (tmp_path / "cell.json").write_text(genotype.to_json())
    (tmp_path / "cell.txt").write_text(f"{genotype}\n")
    assert load_genotype(str(tmp_path / "cell.json")) == load_genotype(str(tmp_path / "cell.txt")) == genotype
    (tmp_path / "cell.json").write_text(genotype.to_json()[:-5])
    with pytest.raises(ValueError, match=r"cell\.json: genotype is not valid JSON"):
        load_genotype(str(tmp_path / "cell.json"))

    with pytest.raises(ValueError, match=r"holds no genotypes\.jsonl"):
        load_genotype(str(tmp_path))
    first, last = GENOTYPES["DARTS_V1"].to_dict(), genotype.to_dict()
    history = tmp_path / "genotypes.jsonl"
    history.write_text("".join(json.dumps({"epoch": e, "genotype": g}) + "\n" for e, g in enumerate((first, last))))
    assert load_genotype(str(tmp_path)) == genotype
    with history.open("a") as file:
        file.write('{"epoch": 2, "geno')  # still being written
    assert load_genotype(str(tmp_path)) == genotype
    history.write_text(history.read_text() + "{broken\n")
    with pytest.raises(ValueError, match=r"genotypes\.jsonl line 3"):
        load_genotype(str(tmp_path))


def test_the_search_space_is_the_papers():
    assert len(PRIMITIVES) == 8 and PRIMITIVES[0] == "none"
    assert Genotype(**{name: getattr(GENOTYPES["DARTS"], name) for name in FIELDS}).num_skip_connects == 2


def write_run(folder, entry: str, finished: bool):
    folder.mkdir()
    (folder / "config.yaml").write_text(f"# python -m darts_hpc.{entry}\nepochs: 2\n")
    line = {"epoch": 0, "when": "epoch_end", "genotype": GENOTYPES["DARTS_V1"].to_dict()}
    (folder / "genotypes.jsonl").write_text(json.dumps(line) + "\n")
    if finished:
        (folder / "result.json").write_text("{}")
    return str(folder)


def test_the_cell_of_an_unfinished_search_is_refused_with_both_ways_out(tmp_path):
    run = write_run(tmp_path / "search", "train_search", finished=False)
    with pytest.raises(ValueError, match="not come to its end") as refused:
        load_genotype(run)
    words = str(refused.value)
    assert f"--save {run}/ --resume auto" in words
    assert load_genotype(words.partition('--arch "')[2].rstrip('"')) == GENOTYPES["DARTS_V1"]
    assert load_genotype(run, unfinished=True) == GENOTYPES["DARTS_V1"]


@pytest.mark.parametrize(("entry", "finished"), [("train_search", True), ("train", False), ("train_imagenet", False)])
def test_the_cell_of_a_finished_search_or_of_any_training_is_final(entry, finished, tmp_path):
    assert load_genotype(write_run(tmp_path / "run", entry, finished)) == GENOTYPES["DARTS_V1"]
