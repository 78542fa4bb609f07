"""The known traps of the original and its forks, B1 to B47, each with the tests that hold it or the reason for none."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# trap: (what it is, what we do, tests as "file::name" below tests/, or the reason why there is none)
GRADIENT, LOOPS = "unit/search/test_hypergradient.py", "unit/training/test_loops.py"
GOLDEN = "integration/test_golden.py"
NETWORK, SUPERNET, MAIN_JOB = (
    "unit/models/test_derived.py",
    "unit/models/supernet/test_plain.py",
    "integration/test_main_job.py",
)
TRAPS: dict[str, tuple[str, str, list[str] | str]] = {
    "B1": (
        "finite differences perturb the weights in place",
        "formula kept; live weights never touched, zero norm guarded, fp32 forced, exact product offered",
        [
            f"{GOLDEN}::test_search_equals_the_original",
            f"{GRADIENT}::test_an_alpha_gradient_leaves_weights_and_running_statistics_bitwise_alone",
            f"{GRADIENT}::test_a_zero_vector_gives_a_finite_gradient",
            f"{GRADIENT}::test_finite_differences_run_without_tf32_and_autocast",
        ],
    ),
    "B2": (
        "a slip in the finite difference's scale",
        "fixed",
        [f"{GRADIENT}::test_unrolled_gradient_equals_the_analytic_bilevel_problem"],
    ),
    "B3": (
        "the product is taken at w",
        "kept",
        [f"{GRADIENT}::test_unrolled_gradient_equals_the_analytic_bilevel_problem"],
    ),
    "B4": (
        "momentum of the unrolled step may be dropped in silence",
        "read from the optimizer; other SGDs refused",
        [
            f"{GRADIENT}::test_unrolled_gradient_equals_the_analytic_bilevel_problem",
            f"{GRADIENT}::test_an_optimizer_whose_step_is_not_the_unrolled_one_is_refused",
        ],
    ),
    "B5": (
        "the real step clips, the unrolled one does not",
        "kept",
        [
            f"{GOLDEN}::test_search_equals_the_original",
            f"{LOOPS}::test_a_weight_step_is_clipped_sgd_and_leaves_the_alphas_alone",
        ],
    ),
    "B6": (
        "running statistics move in the architect's passes",
        "fixed: they move once a step",
        [f"{LOOPS}::test_running_statistics_move_once_per_step_and_only_on_the_weights_batch"],
    ),
    "B7": (
        "the paper evaluates the supernet on batch statistics",
        "the code's running ones kept",
        "an option nobody asked for",
    ),
    "B8": (
        "alphas are no parameters and are lost",
        "fixed",
        [
            f"{SUPERNET}::test_alphas_are_parameters_of_their_own_and_travel_in_the_state_dict",
            f"{SUPERNET}::test_alphas_start_nearly_uniform_as_in_the_original",
            f"{MAIN_JOB}::test_alphas_are_saved_and_give_the_final_genotype",
        ],
    ),
    "B9": (
        "the final genotype is never logged",
        "fixed",
        [f"{MAIN_JOB}::test_the_genotype_is_logged_before_the_first_epoch_and_after_every_one"],
    ),
    "B10": (
        "Adam with coupled decay on the alphas",
        "kept",
        [f"{GRADIENT}::test_alphas_are_stepped_by_adam_with_coupled_weight_decay"],
    ),
    "B11": (
        "the search's rate ends at 0.001",
        "kept",
        ["unit/training/test_optim.py::test_search_rates_are_those_the_original_logged"],
    ),
    "B12": (
        "'none' counts in the softmax and is never chosen",
        "kept",
        ["unit/search/test_derive.py::test_a_heavy_none_lowers_its_edges_rank_but_is_never_chosen"],
    ),
    "B13": (
        "alphas step before weights",
        "kept",
        [f"{LOOPS}::test_each_step_updates_alphas_first_and_cycles_their_half_without_replacement"],
    ),
    "B14": ("eta from get_lr()", "fixed: the optimizer's own rate", [f"{GOLDEN}::test_search_equals_the_original"]),
    "B15": (
        "a new model every unrolled step",
        "fixed: weights replaced functionally",
        [f"{GRADIENT}::test_an_alpha_gradient_leaves_weights_and_running_statistics_bitwise_alone"],
    ),
    "B16": (
        "autograd.grad passes by DDP's hooks",
        "fixed: every gradient is averaged before use",
        [
            "unit/distributed/test_world.py::test_two_ranks_average_sum_and_broadcast",
            "unit/distributed/test_world.py::test_alphas_and_weights_stay_equal_on_two_ranks_with_different_batches",
        ],
    ),
    "B17": (
        "BatchNorm per rank",
        "kept, with --sync_bn as an option",
        ["integration/test_data_parallel_search.py::test_ranks_equal_one_process_on_the_joined_batch"],
    ),
    "B18": (
        "a new iterator for every alpha batch",
        "fixed: cycled without replacement",
        [f"{LOOPS}::test_each_step_updates_alphas_first_and_cycles_their_half_without_replacement"],
    ),
    "B19": (
        "cutout repeats over workers and epochs",
        "fixed: a function of seed, epoch and sample",
        ["unit/data/loading/test_batches.py::test_an_images_augmentation_depends_on_seed_epoch_and_id_alone"],
    ),
    "B20": (
        "the halves are the first and the second of the list",
        "fixed: stratified; the index split is an option",
        [
            "unit/data/loading/test_split.py::test_stratified_split_takes_the_share_of_each_class",
            "unit/data/loading/test_split.py::test_index_split_is_the_originals",
        ],
    ),
    "B21": (
        "search validates on augmented images",
        "fixed for the reported number",
        [f"{LOOPS}::test_weights_and_alphas_train_on_disjoint_halves_and_validation_is_not_augmented"],
    ),
    "B22": (
        "the last incomplete batch trains",
        "fixed: dropped in training, counted exactly in evaluation",
        [
            "unit/data/loading/test_batches.py::test_drop_last_gives_every_rank_equal_batches_of_distinct_images",
            f"{LOOPS}::test_evaluation_counts_every_image_once_and_changes_nothing",
        ],
    ),
    "B23": (
        "the best epoch is reported",
        "fixed: the final one",
        ["unit/run/test_reader.py::test_the_headline_is_the_final_epoch_though_an_earlier_one_was_better"],
    ),
    "B24": ("two hard-coded workers", "fixed", "images live on the device: there are no workers to count"),
    "B25": (
        "every process downloads",
        "fixed: one does, and missing files are named",
        [
            "unit/data/sets/test_torchvision_files.py::test_only_the_main_process_downloads_and_all_raise_its_error",
            "unit/data/sets/test_torchvision_files.py::test_missing_files_give_one_line_that_says_what_to_place_where",
        ],
    ),
    "B26": (
        "statistics of each data set",
        "kept",
        ["unit/data/sets/test_torchvision_files.py::test_pixels_labels_and_statistics_are_those_of_the_files"],
    ),
    "B27": (
        "the schedule skips its first rate on newer torch",
        "fixed",
        [
            "unit/training/test_optim.py::test_search_rates_are_those_the_original_logged",
            "unit/training/test_optim.py::test_rates_equal_torchs_schedule_when_that_is_stepped_at_the_end_of_each_epoch",
        ],
    ),
    "B28": (
        "drop path in place, on CUDA only",
        "fixed; per image, scaled, identities excluded as in the original",
        [
            f"{NETWORK}::test_drop_path_drops_whole_images_at_its_rate_and_keeps_the_mean",
            f"{NETWORK}::test_identities_are_never_dropped_but_strided_skips_are",
        ],
    ),
    "B29": (
        "drop_path_prob is set from outside and may be missing",
        "fixed; the linear ramp kept",
        [
            f"{NETWORK}::test_drop_path_is_off_by_default_and_in_evaluation",
            f"{MAIN_JOB}::test_drop_path_rises_linearly_and_never_reaches_its_full_rate",
        ],
    ),
    "B30": (
        "drop path 0.2, not the paper's 0.3",
        "kept",
        ["unit/config/test_flags.py::test_flags_and_defaults_are_the_original_ones_and_our_few"],
    ),
    "B31": (
        "ImageNet's auxiliary head lacks a BatchNorm",
        "kept",
        [f"{NETWORK}::test_the_imagenet_auxiliary_head_keeps_the_originals_missing_batch_norm"],
    ),
    "B32": (
        "DataParallel's prefix in checkpoints",
        "fixed: stripped, never written",
        ["unit/models/test_state_dicts.py::test_data_parallel_prefix_and_old_pytorchs_missing_counters_load"],
    ),
    "B33": (
        "odd sides and sides other than 224 fail",
        "fixed",
        [
            f"{SUPERNET}::test_any_image_side_passes_through_both_kinds_of_cells",
            f"{NETWORK}::test_small_and_odd_images_run_with_the_auxiliary_head",
            f"{NETWORK}::test_imagenet_network_takes_other_sides_than_224",
        ],
    ),
    "B34": ("zero times infinity", "fixed", [f"{SUPERNET}::test_no_connection_is_zero_even_for_infinite_inputs"]),
    "B35": (
        "two ImageNet recipes",
        "a preset each",
        ["unit/config/test_imagenet_presets.py::test_a_preset_takes_the_batches_and_the_rates_of_its_recipe"],
    ),
    "B36": (
        "clipping scaled gradients",
        "fixed: unscaled first",
        ["unit/training/test_precision.py::test_gradients_are_unscaled_before_they_are_clipped"],
    ),
    "B37": (
        "pools have a BatchNorm in the search only, and none is affine there",
        "kept",
        [f"{SUPERNET}::test_candidates_have_no_learnt_scale_and_pools_are_normalised"],
    ),
    "B38": ("eval of a flag", "fixed: parsed", ["unit/space/test_genotypes.py::test_text_is_never_evaluated"]),
    "B39": (
        "'MB' are millions, the auxiliary head left out",
        "fixed: both are told",
        ["unit/models/test_costs.py::test_auxiliary_head_is_counted_apart_and_the_network_is_left_alone"],
    ),
    "B40": ("code of PyTorch 0.3", "fixed", [f"{LOOPS}::test_evaluation_counts_every_image_once_and_changes_nothing"]),
    "B41": (
        "run folders collide within a second",
        "fixed: a folder is made by one launch alone",
        ["unit/run/test_choose_folder.py::test_launches_of_the_same_second_and_job_never_share_a_folder"],
    ),
    "B42": (
        "drawing opens a viewer",
        "fixed: files only",
        ["unit/pictures/test_cells.py::test_pictures_come_in_all_three_formats_below_a_new_folder"],
    ),
    "B43": (
        "the same seed gives different cells",
        "fixed on the CPU; --deterministic on a GPU",
        [f"{MAIN_JOB}::test_the_same_seed_gives_the_same_run_and_another_seed_another"],
    ),
    "B44": ("assert of a tuple, an unbound variable", "not copied", "pyright and ruff refuse both"),
    "B45": (
        "S1-S4 look primitives up by the wrong edge",
        "not copied",
        ["unit/search/test_derive.py::test_other_primitive_sets_and_node_counts_derive"],
    ),
    "B46": ("a device read in every operation", "not copied", "the mixed operation has no branch on a tensor"),
    "B47": ("alphas' rate scaled by the number of GPUs", "not done", "an untested practice; the flag is the user's"),
}


def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_trap_is_listed():
    assert list(TRAPS) == [f"B{number}" for number in range(1, 48)]


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_held_by_tests_that_exist_or_by_a_reason(trap):
    held = TRAPS[trap][2]
    assert held
    for test in held if isinstance(held, list) else ():
        file, name = test.split("::")
        assert name in functions(file), test
