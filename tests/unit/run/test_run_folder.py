"""What a run folder records and logs."""

import logging

from full_disk import files_up_to

from darts_hpc.run.folder import environment, logging_to


def test_the_environment_names_what_numbers_depend_on():
    facts = environment()
    assert {"python", "torch", "numpy", "cpus", "threads", "gpus", "host"} <= set(facts)


def test_the_log_has_a_file_for_each_rank_and_only_rank_0_prints(tmp_path, capsys):
    for rank in (0, 1):
        with logging_to(tmp_path, rank):
            logging.getLogger("darts_hpc.test").info("rank %d here", rank)
    logging.getLogger("darts_hpc.test").warning("after the run")
    for rank in (0, 1):
        assert (tmp_path / f"log.rank{rank}.txt").read_text().endswith(f"INFO rank {rank} here\n")
    said = capsys.readouterr().err
    assert "rank 0 here" in said and "rank 1 here" not in said


def test_a_full_disk_costs_lines_of_the_log_and_no_traceback(tmp_path, capsys):
    with logging_to(tmp_path, 1), files_up_to(0):
        logging.getLogger("darts_hpc.test").info("no room for this")
    assert "Traceback" not in capsys.readouterr().err
