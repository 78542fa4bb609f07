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
    with pytest.raises(ValueError, match="not a plain list"):
        parse_genotype(
            DARTS_V2_TEXT.replace("[2, 3, 4, 5], ", f"__import__('pathlib').Path({str(victim)!r}).touch(), ")
        )
    assert not victim.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{'normal': ", "not valid JSON"),
        ("Genotype(normal=[", "neither JSON nor"),
        ("print('hello')", "must read Genotype"),
        ("[1, 2]", "must read Genotype"),
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
