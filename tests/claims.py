"""For each line of *What we know now* in chapters 10 to 69: what would make it fail, and what would notice.

CLAIMS[chapter] = [(how the line begins, what would make it fail, where that is noticed), ...], in the order
of the page. Noticed in "cell ID": a cell of the chapter with an assertion; in "tests/FILE.py::NAME": a test.
Several are joined with " + "."""

CLAIMS = {
    "10_kernel_regression": [
        (
            "The Nadaraya-Watson estimator",
            "weights that are not the softmax of log K, or a bandwidth that does not choose what is averaged",
            "tests/regression/test_kernel.py::test_it_is_the_formula +"
            " tests/regression/test_kernel.py::test_a_bandwidth_keeps_waves_that_are_longer_and"
            "_averages_shorter_ones_away",
        ),
        (
            "All predictions together",
            "a trace that does not fall from n to 1, or an error that differs from leaving points out",
            "tests/regression/test_kernel.py::test_smoother_and_degrees_of_freedom +"
            " tests/regression/test_kernel.py::test_the_shortcut_is_the_long_way",
        ),
        (
            "At an edge all neighbours",
            "an error at the edge that does not halve with h, or falls as points are added",
            "tests/regression/test_kernel.py::test_the_lag_at_an_edge_is_proportional_to_the"
            "_bandwidth_and_more_data_do_not_remove_it",
        ),
    ],
    "11_local_linear": [
        (
            "Fitting a line around the query",
            "a height of least squares that the formula with u does not give",
            "tests/regression/test_local_linear.py::test_it_is_least_squares_at_every_query +"
            " tests/regression/test_local_linear.py::test_the_three_quantities_of_the_centred_form",
        ),
        (
            "The weights behind it sum",
            "an affine function that is missed, inside or outside, or an edge without negative weights",
            "tests/regression/test_local_linear.py::test_affine_functions_are_reproduced +"
            " tests/regression/test_local_linear.py::test_inside_an_even_design_the_weights_are"
            "_those_of_the_average_and_at_an_edge_some_are_negative",
        ),
        (
            "With ridge $\\to\\infty$",
            "another limit than the average or than one global line",
            "tests/regression/test_local_linear.py::test_it_leads_from_the_line_to_the_average_and"
            "_from_local_to_global",
        ),
    ],
    "12_bias_variance": [
        (
            "For a smoother that is linear",
            "a simulation more than four standard errors away from the two formulas",
            "tests/regression/test_bias_variance.py::test_exact_is_monte_carlo_within_four_standard_errors",
        ),
        (
            "At an edge, beside a gap",
            "a bias that does not fall to a half, or to a quarter, when h is halved; another variance",
            "tests/regression/test_bias_variance.py::test_the_order_of_the_bias +"
            " tests/regression/test_bias_variance.py::test_variance_at_the_edge",
        ),
        (
            "Added up, the average learns",
            "a last decade far from the exponents, or slopes that are too flat or move away from them",
            "tests/regression/test_bias_variance.py::test_measured_rates +"
            " tests/regression/test_bias_variance.py::test_measured_slopes_come_down_to_the_theory"
            "_from_the_steep_side",
        ),
    ],
    "18_records": [],  # an appendix concludes nothing
    "19_regression_lab": [
        (
            "The average and the line agree",
            "two estimates that differ inside an even design, or agree at an edge, a gap or a crowd",
            "tests/regression/test_regression_lab.py::test_average_and_line_differ_where_neighbours"
            "_are_unbalanced_and_nowhere_else",
        ),
        (
            "The ridge slides the line",
            "another end of either slider than the average or the global line",
            "tests/regression/test_local_linear.py::test_it_leads_from_the_line_to_the_average_and"
            "_from_local_to_global + tests/regression/test_regression_lab.py::test_every_slider_of"
            "_the_bench_moves_what_it_should",
        ),
        (
            "Bias and variance can be seen",
            "parts that do not add up to the error, or a bandwidth at which both are small everywhere",
            "tests/regression/test_regression_lab.py::test_bias_variance_bench +"
            " tests/regression/test_regression_lab.py::test_no_bandwidth_makes_both_bias_and"
            "_variance_small_everywhere",
        ),
    ],
    "20_attention_as_regression": [
        (
            "Keys are design points",
            "attention that differs from the Gaussian kernel on one sphere, or a long key without"
            " more weight",
            "tests/attention/test_baselines.py::test_it_is_nadaraya_watson_for_keys_of_one_length"
            "_whatever_the_query + tests/attention/test_baselines.py::test_in_general_a_key_weighs"
            "_by_its_length_too",
        ),
        (
            "Linear attention, DeltaNet and MesaNet",
            "a layer that is not that gradient step, those steps or that minimum",
            "tests/attention/test_baselines.py::test_linear_attention_is_one_gradient_step_from_zero"
            " + tests/attention/test_baselines.py::test_delta_is_a_gradient_step_a_token +"
            " tests/attention/test_baselines.py::test_mesa_is_the_minimum",
        ),
        (
            "A matrix of $D^2$ numbers",
            "a matrix that recalls more than D pairs or fewer, a cache that loses one, softmax ahead"
            " in winter, or behind a map with an intercept by as much",
            "tests/attention/test_baselines.py::test_a_matrix_holds_as_many_pairs_as_its_side_and_a"
            "_cache_holds_them_all + cell c043",
        ),
    ],
    "21_local_linear_attention": [
        (
            "LLA is softmax attention plus",
            "least squares with another answer, weights that do not sum to one, zero steps that correct",
            "tests/attention/test_dense.py::test_it_is_least_squares_at_every_query +"
            " tests/attention/test_dense.py::test_the_info_is_the_solution_of_the_system +"
            " tests/attention/test_conjugate_gradient.py::test_zero_steps_are_softmax_attention_and"
            "_weights_sum_to_one_for_any_solution",
        ),
        (
            "Between its limits lies a family",
            "another answer at a huge ridge, at scale zero, or for affine values without a ridge",
            "tests/attention/test_dense.py::test_a_large_ridge_is_softmax +"
            " tests/attention/test_dense.py::test_scale_zero_is_one_plane +"
            " tests/attention/test_dense.py::test_affine_values_are_reproduced_without_ridge",
        ),
        (
            "The paper's form is the same",
            "another answer, another denominator, or a ratio of errors below five or above fifty",
            "tests/attention/test_dense.py::test_the_form_of_the_paper_is_the_same_estimator +"
            " tests/attention/test_dense.py::test_the_denominator_of_the_paper_is_a_small_difference"
            "_where_keys_are_few + tests/attention/test_dense.py::test_in_single_precision_the"
            "_centred_form_is_five_to_fifty_times_as_exact",
        ),
    ],
    "21b_line_or_average": [
        (
            "The weights of LLA balance at a point",
            "a miss that is not the ridge times u, at any of the four queries",
            "cell k006",
        ),
        (
            "Weights of both signs",
            "an answer inside the hull, or less noise than softmax attention has",
            "tests/attention/test_dense.py::test_negative_weights_leave_the_hull_of_the_values_and"
            "_are_noisier",
        ),
        (
            "In two dimensions a line",
            "errors that do not order as the table has them, or a gain at speed 12 in fifteen",
            "cell c053",
        ),
    ],
    "22_conjugate_gradient": [
        (
            "The matrix $C_i",
            "a product that differs from the matrix's, or takes more than two products of tiles",
            "tests/attention/test_conjugate_gradient.py::test_the_product_without_a_matrix_is_the"
            "_one_with_it + tests/attention/test_conjugate_gradient.py::test_a_product_is_two"
            "_products_of_tiles_and_makes_no_matrix",
        ),
        (
            "Steps grow as the ridge",
            "fewer steps at a smaller ridge, other than one more than directions, zero steps that correct",
            "tests/attention/test_conjugate_gradient.py::test_steps_grow_as_the_ridge_shrinks +"
            " tests/attention/test_conjugate_gradient.py::test_steps_are_the_directions_in_which"
            "_keys_differ_and_one_more + tests/attention/test_conjugate_gradient.py::test_zero_steps"
            "_are_softmax_attention_and_weights_sum_to_one_for_any_solution",
        ),
        (
            "Each row stops on its own",
            "a row whose solution or steps change with its neighbours",
            "tests/attention/test_conjugate_gradient.py::test_a_row_stops_for_itself",
        ),
    ],
    "22b_preconditioners": [
        (
            "The output needs a residual",
            "an error far from half of the residual, or far from that of rounding at 0.01",
            "tests/attention/test_conjugate_gradient.py::test_a_residual_of_a_hundredth_leaves_the"
            "_error_of_rounding_to_16_bits",
        ),
        (
            "A matrix shared by a tile",
            "a shared matrix without savings, without costs, or without a leak from later tokens; an own part"
            " that loses the savings or costs much",
            "tests/attention/test_preconditioners.py::test_a"
            "_shared_matrix_saves_steps_where_many_keys_count_and_costs_some_where_few_do +"
            " tests/test_results.py::test_a_shared_matrix_saves_steps_at_64_and_costs_some_where_few"
            "_keys_count + tests/attention/test_preconditioners.py::test_one_shared_matrix_lets"
            "_the_future_into_the_past_and_the_others_do_not +"
            " tests/test_results.py::test_the_own_part_of_a_row_keeps_the_savings_and_bounds_the_costs",
        ),
        (
            "Rounded factors keep",
            "a negative eigenvalue with both sides centred, or no more steps after rounding",
            "tests/attention/test_tiled.py::test_rounded_weights_keep_the_operator_positive + cell b016",
        ),
    ],
    "23_tiled_attention": [
        (
            "Partial softmaxes merge",
            "an answer that depends on the tiles, or an array with an entry for each pair",
            "tests/attention/test_tiled.py::test_it_is_the_dense_formula +"
            " tests/attention/test_tiled.py::test_tile_sizes_do_not_matter +"
            " tests/attention/test_tiled.py::test_no_array_is_larger_than_the_sequence",
        ),
        (
            "It costs $5 + 3n$",
            "another count of products, or a past that is the same when rows stop together",
            "tests/attention/test_tiled.py::test_tile_products_are_three_a_step_and_five_or_six_more"
            " + tests/attention/test_tiled.py::test_the_future_does_not_change_the_past_by_one_bit +"
            " tests/attention/test_tiled.py::test_rows_that_stopped_together_would_tell_the_past_how"
            "_hard_the_future_is",
        ),
        (
            "In 16 bits the linear algebra",
            "a direction, a mean or a solution that may be rounded once and used unrounded elsewhere",
            "tests/attention/test_tiled.py::test_the_direction_that_is_followed_is_the_rounded_one +"
            " tests/attention/test_tiled.py::test_the_mean_key_is_that_of_the_rounded_weights +"
            " tests/attention/test_tiled.py::test_rounded_weights_keep_the_operator_positive +"
            " tests/attention/test_tiled.py::test_the_first_rows_survive_bfloat16",
        ),
    ],
    "24_backward": [
        (
            "The gradient of a solution",
            "a gradient that differs from autograd's, or memory that grows with the solver's steps",
            "tests/attention/test_backward.py::test_it_is_autograd_of_the_dense_formula +"
            " tests/attention/test_backward.py::test_what_is_kept_does_not_grow_with_the_steps_of"
            "_the_solver",
        ),
        (
            "The backward solver must be",
            "a forward tolerance that costs the gradient as much as the backward one",
            "tests/attention/test_backward.py::test_the_tolerance_of_the_backward_solver_matters"
            "_several_times_as_much",
        ),
        (
            "Rows of the logit gradient",
            "a row that does not sum to zero, or one that does although the ridge is taken for a constant",
            "tests/attention/test_backward.py::test_inexact_solutions_keep_the_rows_of_the_logit"
            "_gradient_at_zero + tests/attention/test_backward.py::test_a_scaled_ridge_taken_for_a"
            "_constant_spoils_the_rows_and_the_gradient + cell c045b",
        ),
    ],
    "24b_first_kernels": [
        (
            "A program asks first which addresses",
            "a program that touches an address of another or beyond the end, or an empty place that counts",
            "cell k009a + cell k011a",
        ),
        (
            "A row of any length can be walked",
            "a sum over tiles that differs from the sum over the row, or overflows at large logits",
            "cell k013a",
        ),
        (
            "The product with a covariance",
            "a product that differs from the formula, or sixteen steps that do not give the dense answer",
            "cell k019a + cell k021a",
        ),
    ],
    "25_flash_forward": [
        (
            "A program holds a tile",
            "an array of the launch that is larger than a vector for each token; memory that is not linear",
            "tests/kernels/test_flash_lla_forward.py::test_the_kernels_make_no_array_larger_than_the"
            "_sequence + tests/kernels/test_flash_lla_forward.py::test_tile_products_are_three_a"
            "_step_and_six_more + tests/test_results.py::test_memory_is_linear_and_twice_that"
            "_of_softmax",
        ),
        (
            "Rows stop on their own",
            "one bit of a row that changes with a later token or with a neighbour's ridge",
            "tests/kernels/test_flash_lla_forward.py::test_the_past_does_not_see_the_future_bit_for"
            "_bit + tests/kernels/test_flash_lla_forward.py::test_shared_matrices_save_steps_and"
            "_change_nothing_else + tests/attention/test_no_silent_wrong_answer.py::test_a"
            "_neighbours_ridge_changes_no_bit_of_the_kernels_answer",
        ),
        (
            "The cost is $6 + 3n$",
            "another number of products in the interpreted kernels",
            "tests/kernels/test_flash_lla_forward.py::test_tile_products_are_three_a_step_and_six_more",
        ),
    ],
    "26_flash_backward": [
        (
            "An implicit gradient needs",
            "gradients of the kernels that are less exact than those of the tiles",
            "tests/kernels/test_flash_lla_backward.py::test_gradients_are_as_good_as_those_of_the"
            "_twin + tests/kernels/test_flash_lla_backward.py::test_tile_products_are_three_a_step"
            "_and_nineteen_more",
        ),
        (
            "Sums that belong to a query",
            "an atomic addition in the kernels, or two runs that differ in a bit",
            "tests/kernels/test_flash_lla_backward.py::test_nothing_is_added_from_two_sides +"
            " tests/kernels/test_flash_lla_backward.py::test_the_same_result_on_every_run",
        ),
        (
            "The gradient takes $19 + 3n'$",
            "another number of products, or a second solve with fewer steps or many more",
            "tests/kernels/test_flash_lla_backward.py::test_tile_products_are_three_a_step_and"
            "_nineteen_more + tests/kernels/test_flash_lla_backward.py::test_the_second_solve_takes_a"
            "_few_steps_more",
        ),
    ],
    "26b_hopper_solve": [
        (
            "A tile of keys waits in three",
            "a count in which another queue is the longest, or a gain that is not the counted one",
            "cell h105a + cell h113a",
        ),
        (
            "Two programs, or two tiles",
            "a simulated plan that leaves gaps, or a third stage that fits twice and gains",
            "cell h108a + cell h115a",
        ),
        (
            "The kernel reaches 60 per cent",
            "recorded times nearer to the count or further from it, or changes that gained after all",
            "cell h113a + cell h115a + cell 26b0ba06",
        ),
    ],
    "26c_hopper_walks": [
        (
            "A causal pass in bfloat16 that goes over",
            "a recorded pass that is no faster than its twin, or by another factor",
            "cell 26c00105",
        ),
        (
            "A program that is small enough",
            "programs with more registers that are faster after all, or a longer ring that costs nothing",
            "cell 26c00105",
        ),
        (
            "All five stay above the bound",
            "a recorded pass below its bound, or a long one farther from it than the mean key",
            "cell 26c00105",
        ),
    ],
    "27_decoding": [
        (
            "For one query the whole",
            "an answer from the five averages that differs from the dense formula",
            "tests/kernels/test_lla_decode.py::test_the_twin_is_the_dense_formula +"
            " tests/kernels/test_lla_decode.py::test_the_sweep_solves",
        ),
        (
            "Averages of pieces merge",
            "a cut, an order or an empty piece that changes an average or a covariance",
            "tests/kernels/test_lla_decode.py::test_any_cut_gives_the_same",
        ),
        (
            "Rounding must be the same",
            "weighted keys rounded once that are as exact as rounded roots under a sharp softmax",
            "tests/kernels/test_lla_decode.py::test_rounded_roots_survive_a_sharp_softmax_and_rounded"
            "_products_do_not",
        ),
    ],
    "27b_decoding_kernels": [
        (
            "An offset for the exponent",
            "a wrong guess that spoils the answer, or more products in a tile than two",
            "tests/kernels/test_lla_decode.py::test_a_wrong_guess_is_done_again +"
            " tests/kernels/test_lla_decode.py::test_two_products_a_tile_and_nothing_else",
        ),
        (
            "Even the small system",
            "more than a few steps to the residual of the kernel, or answers less exact than the sweep's",
            "tests/kernels/test_lla_decode.py::test_the_small_system_takes_fewer_steps_than_an"
            "_elimination + tests/kernels/test_lla_decode.py::test_the_solver_reaches_what_float32"
            "_can",
        ),
        (
            "One pass cannot know everything",
            "equal keys with another answer than softmax, or a query that decides for its neighbour",
            "tests/kernels/test_lla_decode.py::test_equal_keys_give_softmax_whatever_the_ridge +"
            " tests/kernels/test_lla_decode.py::test_a_kernel_that_cannot_tell_a_covariance_from"
            "_rounding_answers_with_softmax_for_that_query_alone",
        ),
    ],
    "27c_decoding_measured": [
        (
            "The work is $D$ operations",
            "a count in which one query multiplies longer than it reads, or eight do not",
            "cell c052b",
        ),
        (
            "Measured on long caches",
            "a recorded time on a long cache that is not one and a half times or twice softmax's, or no gain",
            "tests/test_results.py::test_decoding_over_long_caches_costs_one_and_a_half_times_softmax_at_64"
            "_and_over_twice_at_128 + cell d27c0003",
        ),
        (
            "Of the recorded time on long",
            "a recorded time on a long cache of which the count explains far more or less",
            "tests/test_results.py::test_decoding_over_long_caches_costs_one_and_a_half_times_softmax_at_64"
            "_and_over_twice_at_128",
        ),
    ],
    "27d_ragged": [
        (
            "A packed or padded call gives",
            "a sequence whose answer or gradient is not that of its own call, or padding that is noticed",
            "tests/attention/test_ragged.py::test_packed_sequences_are_separate_calls_of_the_formula +"
            " tests/attention/test_ragged.py::test_packed_sequences_are_separate_calls_bit_for_bit +"
            " tests/attention/test_ragged.py::test_padded_sequences_are_unpadded_calls_and_padding_is"
            "_never_read",
        ),
        (
            "A window needs a first tile",
            "a window that differs from the formula over the keys inside, for some sizes of tiles",
            "tests/attention/test_ragged.py::test_a_window_is_the_formula_over_the_keys_inside +"
            " tests/attention/test_ragged.py::test_a_window_in_tiles_of_any_size",
        ),
        (
            "A layer with a cache answers",
            "a text in pieces whose answers are not those of the whole text",
            "tests/attention/test_ragged.py::test_a_layer_with_a_cache_answers_as_a_whole_text",
        ),
    ],
    "28_flash_lla": [
        (
            "`flash_lla` takes the shapes",
            "a shape, a transformation or a gradient that fails, or a derivative that is not refused",
            "tests/attention/test_flash.py::test_backends_agree_on_every_shape +"
            " tests/attention/test_ragged.py::test_packed_sequences_are_separate_calls_bit_for_bit +"
            " tests/attention/test_ragged.py::test_padded_sequences_bit_for_bit +"
            " tests/attention/test_flash.py::test_auto_never_picks_a_kernel_that_cannot_run +"
            " tests/attention/test_flash.py::test_gradcheck_through_the_operator +"
            " tests/attention/test_flash.py::test_it_compiles_with_any_ridge +"
            " tests/attention/test_flash.py::test_autocast_casts_what_pytorch_casts +"
            " tests/attention/test_flash.py::test_vmap_folds_the_mapped_dimension +"
            " tests/attention/test_flash.py::test_functional_gradients_are_those_of_backward +"
            " tests/attention/test_flash.py::test_a_second_derivative_is_refused_in_words +"
            " tests/attention/test_flash.py::test_forward_mode_is_refused_in_words +"
            " tests/attention/test_flash.py::test_an_unfinished_solver_warns_once_a_call_site",
        ),
        (
            "With zero steps it is softmax",
            "zero steps that correct, a finished solve off the line, or a first step that always helps",
            "tests/attention/test_flash.py::test_backends_agree_on_every_shape +"
            " tests/attention/test_tiled.py::test_tile_products_are_three_a_step_and_five_or_six"
            "_more + tests/attention/test_attention_lab.py::test_two_dimensions_need_two_steps_and"
            "_sharp_first_steps_hurt",
        ),
        (
            "`LocalLinearAttention` learns one ridge",
            "a layer that differs from the formula on normalised, rotated, grouped heads, or a fixed ridge",
            "tests/attention/test_flash.py::test_a_layer_is_attention_of_normalised_rotated_grouped"
            "_heads_with_a_ridge_a_head + tests/attention/test_flash.py::test_a_layer_is_causal_and"
            "_learns_its_ridge + tests/attention/test_ragged.py::test_a_layer_with_a_cache_answers_as"
            "_a_whole_text",
        ),
    ],
    "28a_measurements": [
        (
            "Time is seven to forty-nine",
            "a recorded time outside of that, or one that does not follow the steps beside it",
            "tests/test_results.py::test_the_faster_softmax_is_cudnn_and_local_lines_cost_7_to_49"
            "_times_as_much + tests/test_results.py::test_small_ridges_take_more_steps_and_large"
            "_ones_few +"
            " tests/test_results.py::test_the_solver_is_from_half_to_over_nine_tenths_of_the_tile_products",
        ),
        (
            "Heads of a trained model",
            "trained heads or short texts that take fewer steps, or a host that needs another time",
            "tests/test_results.py::test_trained_heads_and_short_sequences_take_more_steps"
            "_and_cost_more + tests/test_results.py::test_a_call_costs_the_host_a_third_of_a_millisecond"
            "_and_softmax_and_a_replayed_graph_much_less",
        ),
        (
            "Memory is linear in the number",
            "memory that is not linear, a gradient a tenth less exact than tiles have, or losses that part",
            "tests/test_results.py::test_memory_is_linear_and_twice_that_of_softmax +"
            " tests/test_results.py::test_no_gradient_of_the_kernels_is_a_tenth_less_exact_than_that"
            "_of_their_tiles + tests/kernels/test_flash_lla_forward.py::test_it_is_as_good_as_its"
            "_twin + tests/test_results.py::test_the_toy_trains_to_the_same_curve_on_both_machines",
        ),
    ],
    "28b_records": [],  # an appendix claims nothing of its own
    "38_records": [],
    "48_records": [],
    "58_records": [],
    "68_records": [],
    "28c_how_it_got_fast": [
        (
            "A step of the solver lasts",
            "a step that is much shorter or longer than a pass of softmax attention",
            "cell f28c00a1",
        ),
        (
            "The solver takes more than half",
            "a kernel that takes more than the solver, or counters of a part that is busy most of the time",
            "tests/test_results.py::test_the_solver_takes_more_than_half_of_a_forward_pass_and_is_the_longest"
            "_kernel_of_a_training_step + tests/test_results.py::test_no_part_of_a_multiprocessor_is_busy_for"
            "_two_thirds_of_the_time_while_the_solver_runs",
        ),
        (
            "A count predicts an idea",
            "counted gains that the clock does not show, or a third stage or short texts as predicted",
            "cell f28c00a2",
        ),
    ],
    "28d_several_devices": [
        (
            "Cut in order, the last of",
            "a zigzag whose ranks differ in their pairs, or an order whose last rank has no more than others",
            "tests/attention/test_distributed.py::test_a_zigzag_is_even_and_an_order_is_not",
        ),
        (
            "A contiguous piece of queries",
            "an answer or a gradient over several processes that is not that of one device",
            "tests/attention/test_distributed.py::test_every_rank_agrees_with_one_device + cell s021a +"
            " cell s023a",
        ),
        ("A solver reads the keys", "a solver that walks over the keys no more than six times", "cell s028b"),
    ],
    "29_attention_lab": [
        (
            "Both planes meet at the mean",
            "planes that meet elsewhere, or a slope that matters as much in the middle",
            "tests/attention/test_attention_lab.py::test_the_planes_of_the_figure_meet_at_the_mean"
            "_key + tests/attention/test_attention_lab.py::test_the_lever_is_short_in_the_middle_and"
            "_long_at_the_edge",
        ),
        (
            "Ridge, scale and steps lead",
            "a slider with another end, or first steps on sharp data that do not hurt",
            "tests/attention/test_attention_lab.py::test_the_ends_of_the_knobs +"
            " tests/attention/test_attention_lab.py::test_two_dimensions_need_two_steps_and_sharp"
            "_first_steps_hurt",
        ),
        (
            "One program's memory depends",
            "a table that changes with the number of tokens, or another count of products",
            "tests/attention/test_attention_lab.py::test_memory_is_the_table_of_chapter_23 +"
            " tests/attention/test_attention_lab.py::test_the_picture_and_the_bars_of_the_walk +"
            " tests/attention/test_tiled.py::test_tile_products_are_three_a_step_and_five_or_six_more",
        ),
    ],
    "30_models": [
        (
            "A decoder block is",
            "a block that adds anything else, or a token that hears another while the mixer is silent",
            "tests/models/test_models.py::test_a_block_adds_what_it_mixes_and_then_what_its_mlp_says"
            " + tests/models/test_models.py::test_only_the_mixer_moves_anything_between_tokens",
        ),
        (
            "Attention looks up what followed",
            "one layer, a mean or fixed weights that learn the task too, or two layers that learn it slowly",
            "cell c028 + cell c042a",
        ),
        (
            "Attention weights suggest what a head does",
            "a head that the picture names and whose loss changes nothing, together with its double",
            "cell c035a + tests/models/test_models.py::test_the_index_of_a_head_means_nothing",
        ),
    ],
    "31_mixers": [
        (
            "Most recurrent mixers are linear attention",
            "a rule that is not the layer of chapter 20 when its gates are open, or not what its"
            " formula says",
            "tests/tasks/test_mixers.py::test_without_gates_they_are_the_layers_of_chapter_20 +"
            " tests/tasks/test_mixers.py::test_the_sum_is_an_explicitly_weighted_sum +"
            " tests/tasks/test_mixers.py::test_the_delta_rule_is_a_gradient_step_on_a_faded_memory +"
            " tests/tasks/test_mixers.py::test_mesa_is_a_ridge_regression_with_fading_weights",
        ),
        (
            "One-hot values make any layer",
            "weights that do not give the layer's answers, or an old value that another mixer drops",
            "cell c020 + tests/tasks/test_mixers.py::test_weights_read_off_one_hot_values",
        ),
        (
            "In one frame the eight mixers",
            "a mixer with four per cent more parameters, or one rate that suits all",
            "tests/tasks/test_mixers.py::test_parameters_are_equal_to_within_four_in_a_hundred + cell c043h",
        ),
    ],
    "31b_without_the_solver": [
        (
            "Softmax attention, Parallax and LLA are one formula",
            "an answer that is not affine in u, or not that of softmax attention or LLA with their u",
            "cell u006 + tests/attention/test_probe.py::test_no_step_is_the_equation +"
            " tests/attention/test_probe.py::test_with_our_solution_it_is_our_answer_and_with_zero_it"
            "_is_softmax",
        ),
        (
            "A projection of the query can know",
            "an error that stays up with one cloud or comes down where centres move, a start that is two"
            " steps ahead or none",
            "cell u014 + cell u017a",
        ),
        (
            "Trained in a small in-context regression",
            "an interval of LLA that holds zero, one of the two others that does not, or an error of Parallax"
            " outside of the two in the large race",
            "cell u024 + cell u025b",
        ),
    ],
    "31c_chunks": [
        (
            "A memory that fades can be computed",
            "a piece whose answers or memory are not those of the loop, or a factor above one",
            "tests/tasks/test_mixers.py::test_pieces_are_the_loop",
        ),
        (
            "The correction of the delta rule",
            "pieces that answer otherwise than the loop, for one of the three rules",
            "cell k008 + tests/tasks/test_mixers.py::test_pieces_are_the_loop",
        ),
        (
            "From piece to piece only the memory",
            "pieces side by side that answer otherwise than the loop",
            "cell k018",
        ),
    ],
    "32_test_time_regression": [
        (
            "On piecewise linear data LLA",
            "a contest in which softmax has the smaller error later, or a ratio that falls before d = 64",
            "tests/test_results.py::test_local_lines_gain_with_the_dimension_up_to_64_and_with_the"
            "_segment + tests/test_results.py::test_softmax_has_the_smaller_error_in_the_first"
            "_tokens_after_a_change_and_not_in_the_first_segment",
        ),
        (
            "Where the world never comes back",
            "LLA ahead of a MesaNet that fades in few dimensions, or behind one that forgets where"
            " pieces return",
            "tests/test_results.py::test_forgetting_wins_in_few_dimensions_and_place_wins_in_many"
            "_and_where_pieces_return",
        ),
        (
            "A claim that one method beats all",
            "one method that is best in every recorded contest, whatever the dimension and the world",
            "tests/test_results.py::test_choices_beyond_the_grid_change_no_verdict_of_the_contest"
            "_without_learning",
        ),
    ],
    "33_in_context_regression": [
        (
            "A layer can fit a map only to pairs",
            "short trainings with two parts that end as far apart as those with three",
            "cell c014",
        ),
        (
            "A short training in 8 dimensions",
            "a rival with a smaller mean error, a ratio that falls, or p on the other side of 0.05",
            "tests/test_results.py::test_the_small_contests_of_part_3_with_other_seeds +"
            " tests/test_results.py::test_local_lines_have_the_smallest_error_in_context_at_every"
            "_length + tests/test_results.py::test_the_lead_in_context_grows_with_the_segment +"
            " tests/test_results.py::test_a_projection_in_context_lies_between_softmax_with_the_norm"
            "_and_local_lines",
        ),
        (
            "Trained briefly, softmax narrows its neighbourhood",
            "heads of LLA wider than those of softmax up to 128 tokens, or 32 bits that help a rival",
            "cell c037 + tests/test_results.py::test_told_pairs_or_not_is_the_same_to_local_lines"
            "_and_not_to_softmax + tests/test_results.py::test_thirty_two_bits_help_local_lines_and"
            "_nobody_else",
        ),
    ],
    "34_associative_recall": [
        (
            "Recall without a short convolution takes two layers",
            "one layer that recalls, a model that does so without lessons, or other shares after 600 steps",
            "cell c026 + tests/tasks/test_recall.py::test_without_lessons_softmax_is_on_the_plateau"
            "_and_with_them_it_recalls + tests/test_results.py::test_a_low_curve_of_softmax_on_few"
            "_pairs_is_a_training_that_ended_early",
        ),
        (
            "LLA learned the same circuit from",
            "softmax that recalls from as few prompts, sharp weights in LLA, or answers lost with"
            " negative ones",
            "cell c034 + cell c036 + tests/test_results.py::test_the_small_contests_of_part_3_with"
            "_other_seeds",
        ),
        (
            "A matrix memory is enough when",
            "a memory near softmax and LLA with 64 pairs at width 64, or another share at the"
            " estimated number",
            "tests/tasks/test_recall.py::test_what_fits_is_recalled_and_what_does_not_is_lost +"
            " tests/tasks/test_recall.py::test_half_of_the_pairs_are_read_where_the_estimate_says +"
            " tests/test_results.py::test_caches_recall_sixty_four_pairs_and_matrices_do_not +"
            " tests/test_results.py::test_matrices_recall_fewer_pairs_and_larger_ones_recall_more +"
            " tests/test_results.py::test_a_memory_that_solves_is_the_best_one_where_it_learns_at_all",
        ),
    ],
    "35_state_tracking": [
        (
            "A state is what must be known of the past",
            "a world of swaps that can be taken apart with five cups, or one that cannot with three or four",
            "tests/tasks/test_state_tracking.py::test_only_a5_cannot_be_taken_apart",
        ),
        (
            "A step of the delta rule with",
            "a word that the layer set by hand gets wrong, or a step of one that tells odd from even",
            "tests/tasks/test_state_tracking.py::test_the_machine_is_right_on_any_word +"
            " tests/tasks/test_state_tracking.py::test_the_machine_does_not_tire +"
            " tests/tasks/test_state_tracking.py::test_the_same_machine_with_a_step_of_one_fails_at"
            "_the_second_swap",
        ),
        (
            "Trained on words of 32 swaps",
            "a reach of more than eight moves in another mixer, or a layer that is worth as much to softmax",
            "tests/test_results.py::test_a_step_to_two_follows_the_cups_and_lines_follow_farther"
            "_than_averages + tests/test_results.py::test_local_lines_keep_up_longest_of_those_that"
            "_are_lost + tests/test_results.py::test_more_cups_and_moves_that_commute +"
            " tests/test_results.py::test_a_layer_is_worth_several_swaps_to_local_lines_and_one_to"
            "_softmax",
        ),
    ],
    "36_language_model": [
        (
            "Bits per byte is a code length",
            "counts of four bytes at another level than 1.8 bits, or a live decoder that needs fewer bits",
            "tests/tasks/test_language.py::test_contexts_help_until_they_do_not_and_pieces_leak + cell c043",
        ),
        (
            "A split decides what is measured",
            "pieces of the same files that give no better result, or a turn of the curve at the same length",
            "tests/tasks/test_language.py::test_contexts_help_until_they_do_not_and_pieces_leak",
        ),
        (
            "An error over files is not an error over seeds",
            "gaps of the small models that agree over seeds, or a line that adds more than the norm",
            "tests/test_results.py::test_the_small_contests_of_part_3_with_other_seeds",
        ),
    ],
    "36b_language_race": [
        (
            "Over three seeds LLA cannot be told apart",
            "p below 0.05 at equal steps, or above it at equal time",
            "tests/test_results.py::test_on_real_text_local_lines_are_level_at_equal_steps_and_behind"
            "_at_equal_time",
        ),
        (
            "LLA brings the norm on queries and keys",
            "p below 0.05 for a ridge against the norm alone, or ridges that meet",
            "tests/test_results.py::test_on_real_text_other_ridges_help_as_much_as_the_norm_alone",
        ),
        (
            "A learning rate chosen in a short trial",
            "Gated DeltaNet that is not the best in the trials, or is not last at a lower rate",
            "tests/test_results.py::test_gated_deltanet_on_real_text_was_tried_for_too_short_and_is"
            "_last_all_the_same + tests/test_results.py::test_on_real_text_local_lines_are_level_at"
            "_equal_steps_and_behind_at_equal_time",
        ),
    ],
    "37_in_a_transformer": [
        (
            "Softmax attention is the end of the road",
            "logits at a ridge of 1e8 that differ from those of softmax attention by more than rounding",
            "tests/integrations/test_transformers.py::test_a_large_ridge_is_softmax_attention + cell c103a",
        ),
        (
            "An attention function without a mask function",
            "a padded row that differs from the same text alone, or a naive model whose logits do not move",
            "tests/integrations/test_transformers.py::test_padded_rows_are_equal_to_unpadded_ones"
            " + cell c112b",
        ),
        (
            "This pretrained model gains very little",
            "trained ridges that raise the loss by more than a thousandth of a nat",
            "cell c125",
        ),
    ],
    "37b_pretrained": [
        (
            "Far above the spread of the keys a line needs no solver",
            "an error of the far line that does not fall by a hundred, a solved direction that is ahead on"
            " the library, or one that is not ahead on this book",
            "cell q370fa12 + cell q370dir1 +"
            " tests/test_results.py::test_the_solver_is_needed_on_the_prose_of_this_book_only",
        ),
        (
            "Without training, one ridge for all heads",
            "controls that gain less than ridges, a query that gains, or spreads as a better unit",
            "cell q370due1 + cell q370dir1 + cell 5d2a90fe +"
            " tests/test_results.py::test_the_mean_key_earns_what_lines_earn_in_a_pretrained_model +"
            " tests/test_results.py::test_near_copies_do_not_make_the_order_of_the_fits +"
            " tests/test_results.py::test_temperatures_and_gains_do_as_much_as_ridges +"
            " tests/test_results.py::test_a_ridge_in_spreads_gains_nothing_and_16_bits_make_it_a_loss +"
            " tests/test_results.py::test_learned_ridges_in_spreads_gain_less_than_plain_ones",
        ),
        (
            "After forty steps with all weights",
            "an interval of a difference from softmax heads that does not hold zero",
            "cell q370rep1 + tests/test_results.py::test_trained_on_lines_are_no_better_than_softmax_heads",
        ),
    ],
    "39_tasks_lab": [
        (
            "After a change, rules with a clock recover",
            "a rule without a clock ahead while the world is new, or LLA that jumps when it comes back",
            "tests/tasks/test_tasks_lab.py::test_who_recovers_and_who_had_never_left +"
            " tests/tasks/test_tasks_lab.py::test_place_remembers_and_the_clock_forgets",
        ),
        (
            "A matrix of $D$ columns holds about",
            "MesaNet with mistakes below D names, a cache with them, or an old value that another rule drops",
            "tests/tasks/test_tasks_lab.py::test_capacity_of_matrices_and_caches +"
            " tests/tasks/test_tasks_lab.py::test_only_the_delta_rules_drop_the_old_value",
        ),
        (
            "Negative weights are what moves a mean key",
            "a mean key that misses its query at a small ridge, or weights that pass on less noise outside",
            "cell c063 + tests/tasks/test_tasks_lab.py::test_weights_sum_to_one_and_the_mean_key"
            "_lands_on_the_query",
        ),
    ],
    "40_latent_reasoning": [
        (
            "Three sets of welcome",
            "a posterior that is not P times g, or one in which no thought is lucky",
            "tests/brite/test_latent_model.py::test_the_posterior_sums_to_one_and_is_bayes_rule + cell c017",
        ),
        (
            "$\\log P(\\text{good}) = ",
            "a Q above the evidence, or one that is not the posterior and loses nothing",
            "tests/brite/test_latent_model.py::test_the_bound_holds_and_is_tight_at_the_posterior"
            "_only + cell c025a",
        ),
        (
            "On the token tree the posterior",
            "a soft optimum at temperature 1 that is not the posterior, or rationales that get"
            " longer as both are sharpened",
            "tests/brite/test_latent_model.py::test_the_soft_optimum_is_the_posterior + cell c031 +"
            " cell c038 + cell c040",
        ),
    ],
    "41_brite": [
        (
            "BRiTE with exact steps is EM",
            "a round in which L falls, a star-concave path above the bound, or no path that stops early",
            "tests/brite/test_brite_algorithm.py::test_sixty_problems +"
            " tests/brite/test_brite_algorithm.py::test_a_saddle_holds_the_writer_and_breaks_the"
            "_bound + cell c032",
        ),
        (
            "A path that arrives at the optimum",
            "a path with another last ratio than the square of the fraction, or examples without a power law",
            "tests/brite/test_brite_algorithm.py::test_every_path_that_arrives_is_geometric_in_the"
            "_end + tests/brite/test_brite_algorithm.py::test_power_laws",
        ),
        (
            "Rejection sampling draws from",
            "kept samples farther from the posterior than their noise, or five updates that end alike",
            "tests/brite/test_brite_algorithm.py::test_survivors_are_samples_of_the_posterior + cell"
            " c041 + cell c049",
        ),
    ],
    "41b_task": [
        (
            "The task knows the right next step",
            "a gold rationale that a plain sum contradicts, or a lucky text graded as faithful",
            "tests/brite/test_experiments.py::test_gold_texts_are_right_by_a_plain_sum_and_judged_so"
            " + tests/brite/test_experiments.py::test_lucky_and_wrong_texts_are_told_apart",
        ),
        (
            "The careless author takes",
            "other shares of right and slipped steps in many drawn rationales",
            "tests/brite/test_experiments.py::test_the_author_takes_right_steps_as_often_as_told",
        ),
        (
            "Chains of six digits are right by luck",
            "a convolution of his errors with less luck, or drawn texts with other shares",
            "cell c047",
        ),
    ],
    "41c_writer": [
        (
            "The grammar decides which tokens",
            "log-probabilities that differ from those of a plain loop over the rules, or texts that"
            " break them",
            "tests/brite/test_experiments.py::test_log_probs_equal_a_plain_loop +"
            " tests/brite/test_experiments.py::test_what_is_written_has_one_stop_an_answer_and"
            "_padding",
        ),
        (
            "A token drawn as the largest",
            "frequencies of many draws that are not the softmax",
            "tests/brite/test_experiments.py::test_draws_follow_the_probabilities",
        ),
        (
            "A writer that can be told",
            "a hint that changes logits before it was trained",
            "tests/brite/test_experiments.py::test_a_hint_is_silent_at_first_and_heard_later",
        ),
    ],
    "41d_updates": [
        (
            "Rejection sampling imitates right texts",
            "kept texts that are wrong, or a thinker that is no more often right after a hundred steps",
            "tests/brite/test_experiments.py::test_accepting_keeps_one_right_text_of_each_covered"
            "_prompt + cell c034b",
        ),
        (
            "The return of ψ is the integrand",
            "a return that varies under the posterior",
            "tests/brite/test_experiments.py::test_the_return_is_the_elbo_integrand_and_is_constant"
            "_for_the_posterior",
        ),
        (
            "Advantages of a prompt sum to zero",
            "a row of advantages with another sum, or one that is not the return minus the mean of"
            " the others",
            "tests/brite/test_experiments.py::test_advantages_have_mean_zero_and_leave_one_out",
        ),
    ],
    "42_brite_transformer": [
        (
            "Sampling from the exact posterior",
            "kept texts of six digits that are mostly faithful, or a checked sampler that is no better",
            "cell c052 + tests/test_results.py::test_thinkers_beat_samplers_and_luck_is_what_the"
            "_samplers_learned",
        ),
        (
            "Reinforcement learning chooses before",
            "two ways that both rules weigh alike, an ELBO of psi near the evidence, or a told psi with a"
            " lower ELBO or a better theta",
            "cell n007 + tests/test_results.py::test_a_thinker_stays_far_from_the_posterior_on_long_chains +"
            " tests/test_results.py::test_a_thinker_that_is_told_the_answer_has_the_better_elbo_and"
            "_is_the_worse_teacher",
        ),
        (
            "ψ and θ before several rounds",
            "one run over ten digits in another order, or a variant that t-tests find ahead in most columns",
            "tests/test_results.py::test_one_order_holds_in_every_run_in_which_luck_is_cheap +"
            " tests/test_results.py::test_gold_and_thinkers_are_level_up_to_eight_digits_and_not_at"
            "_twelve + tests/test_results.py::test_where_luck_is_rare_the_order_vanishes +"
            " tests/test_results.py::test_rewards_without_a_checker_and_latent_dpo_lose_in_most"
            "_columns",
        ),
    ],
    "42b_language_model": [
        (
            "A right answer of the careless author",
            "shares that differ from the convolution, or from p to the power of the steps",
            "cell t015d + tests/brite/test_brite_pretrained.py::test_a_careless_author_is_right_by_reason"
            "_or_by_luck_as_often_as_calculated",
        ),
        (
            "The decoder that is written out",
            "a logit or a most likely token that is not that of transformers",
            "cell t021b + cell t022b +"
            " tests/brite/test_brite_pretrained.py::test_logits_are_those_of_transformers +"
            " tests/brite/test_brite_pretrained.py::test_greedy_texts_are_those_of_generate",
        ),
        (
            "A text is drawn as often as it is probable",
            "counts of tokens or of pairs that the probabilities do not explain",
            "cell t023c + tests/brite/test_brite_pretrained.py::test_a_text_is_drawn_as_often_as_it"
            "_is_probable",
        ),
    ],
    "43_brite_pretrained": [
        (
            "One round of rejection sampling improves",
            "an interval of the gain that holds zero, a gold pupil within reach, kept texts that are no"
            " luckier than right ones, or a sampler with checked steps that is not far ahead of it",
            "cell r014a8f2 + cell r015c7f1 + cell r038c3d7",
        ),
        (
            "Reinforcement (ψ) beats one round",
            "an interval that holds zero after the careless lesson or on legs, or none elsewhere, one above"
            " five rounds with three seeds, or five rounds that solve as many problems with eight texts",
            "cell r014a8f2 + cell r023f2c8",
        ),
        (
            "The θ-update of BRiTE takes back",
            "with three seeds a pupil that is not behind psi, is ahead of one round, or whose answers follow"
            " from their steps as often, one without those texts that is not ahead of it, or one on legs"
            " that contradicts itself or is not ahead of one round",
            "cell r014a8f2 + cell r034d9f3 + cell r034b7a2 + cell r036b6e2",
        ),
    ],
    "49_brite_lab": [
        (
            "A ψ-update keeps what leads",
            "a round in which thinking is less often faithful, or habits take nothing back",
            "tests/brite/test_brite_lab.py::test_thinking_keeps_what_leads_to_the_answer_and_habits"
            "_bring_some_of_the_rest_back",
        ),
        (
            "Which way survives depends",
            "another start or answer with the same fate, a cold bench that chooses later, a hot one"
            " that chooses",
            "tests/brite/test_brite_lab.py::test_start_and_answer_decide_which_way_survives_and_a"
            "_high_temperature_lets_none",
        ),
        (
            "Samples find what happens more",
            "a chance of success that falls with more samples, or kept long sums that are mostly reasoned",
            "tests/brite/test_brite_lab.py::test_coverage_bench +"
            " tests/brite/test_brite_lab.py::test_reader_of_recorded_texts +"
            " tests/test_results.py::test_thinkers_beat_samplers_and_luck_is_what_the_samplers"
            "_learned",
        ),
    ],
    "50_causal_graphs": [
        (
            "The world is a root with two branches",
            "a sentence that holds a complete chain, or a value that is not the root's plus an offset",
            "tests/ftct/test_causal_graph.py::test_no_sentence_holds_a_complete_chain +"
            " tests/ftct/test_causal_graph.py::test_sentences_are_what_the_process_says",
        ),
        (
            "Everything after the head",
            "a newline or a head in the loss, a pair beyond M in a fragment, or no list with both ends",
            "tests/ftct/test_causal_graph.py::test_everything_counts_but_heads_newlines_and_padding"
            " + cell c036a",
        ),
        (
            "The test hands over the *order*",
            "a prompt whose examples hold the values of the answer, or ranges that overlap",
            "tests/ftct/test_causal_graph.py::test_prompts_ask_for_complete_chains + cell c034",
        ),
    ],
    "51_ftct_training": [
        (
            "Trained on fragments only",
            "a median of one shot near that of none, wrong values, or another count of graphs that"
            " need no example",
            "tests/test_results.py::test_fragments_are_chained_with_one_example_and_not_without +"
            " tests/test_results.py::test_a_second_example_hurts_on_each_of_six_small_graphs",
        ),
        (
            "The threshold in $M/N$",
            "a setting above 0.3 that fails, one order of settings below it, or shorter fragments"
            " that come earlier",
            "tests/test_results.py::test_above_three_tenths_every_setting_chains_and_below_the_ratio"
            "_does_not_decide + tests/test_results.py::test_chains_begin_earlier_with_longer"
            "_fragments + tests/test_results.py::test_without_an_example_a_model_walks_on_or_does_not",
        ),
        (
            "The measure matters",
            "six graphs on which a second example helps as often, an MLP with values, or one layer"
            " that never chains",
            "tests/test_results.py::test_a_second_example_hurts_on_each_of_six_small_graphs +"
            " tests/test_results.py::test_an_mlp_finds_the_order_and_not_the_values +"
            " tests/test_results.py::test_one_layer_with_one_head_writes_no_chain_and_with_two_it_may",
        ),
    ],
    "52_ftct_mechanism": [
        (
            "One example tells our trained models",
            "a swapped example that is followed, an example with noise for values that works, a head on"
            " the successor, or noise that keeps its probability",
            "tests/ftct/test_interpretability.py::test_a_swapped_example_is_not_followed_and_values"
            "_come_from_the_weights + tests/ftct/test_interpretability.py::test_noise_for_values_leaves"
            "_hardly_a_chain + tests/ftct/test_interpretability.py::test_no_head_looks_at_the"
            "_successor_and_the_first_layer_reads_a_list + tests/ftct/test_interpretability.py::test"
            "_an_example_takes_the_probability_from_the_noise",
        ),
        (
            "Values come from one look back",
            "a patched parent reader whose model keeps the root of its own sentence",
            "tests/ftct/test_interpretability.py::test_the_parent_reader_carries_the_value_of_another_text",
        ),
        (
            "Jobs can be told apart",
            "a path reader whose absence costs values, or a parent reader whose absence at letters"
            " costs vertices",
            "tests/ftct/test_interpretability.py::test_order_and_values_are_lost_separately",
        ),
    ],
    "52b_by_hand": [
        (
            "A machine that copies the order",
            "a swapped or shuffled example that the machine does not follow, or that the trained models do",
            "tests/ftct/test_interpretability.py::test_two_layers_by_hand_write_every_chain +"
            " tests/ftct/test_interpretability.py::test_a_swapped_example_is_not_followed_and_values"
            "_come_from_the_weights",
        ),
        (
            "\"Parent\" is a generous word",
            "models that find the parent behind a decoy",
            "tests/ftct/test_interpretability.py::test_noise_that_looks_like_a_parent_is_believed"
            "_less_where_ranges_overlap",
        ),
        (
            "Where the ranges overlap in training",
            "ranges that overlap and cost no chains, or a value that cannot be read at its child",
            "tests/ftct/test_interpretability.py::test_overlapping_ranges_cost_chains +"
            " tests/ftct/test_interpretability.py::test_only_the_parent_can_be_read",
        ),
    ],
    "59_ftct_lab": [
        (
            "A sentence shows at most $M$",
            "a drawn sentence with a longer run of the graph than its fragment",
            "tests/ftct/test_causal_graph.py::test_sentences_are_what_the_process_says +"
            " tests/ftct/test_causal_graph.py::test_no_sentence_holds_a_complete_chain",
        ),
        (
            "With two neighbours swapped",
            "a share of swapped orders, or none of true ones, in what the three models write",
            "tests/ftct/test_interpretability.py::test_a_swapped_example_is_not_followed_and_values"
            "_come_from_the_weights",
        ),
        (
            "What a head is for depends",
            "a switch that does the same at letters and at values",
            "tests/ftct/test_ftct_lab.py::test_places_and_models_matter",
        ),
    ],
    "60_mechanisms": [
        (
            "The virtual value",
            "an auction whose payments are not the virtual value of the winner, or a better one",
            "tests/auctions/test_mechanisms.py::test_payments_are_the_virtual_welfare_and_the"
            "_integral + tests/auctions/test_mechanisms.py::test_contextual_reserve_is_half_the"
            "_ceiling",
        ),
        (
            "An honest rule can",
            "a seller who halves for the bidders and meets a lie, or payments that are not the integral",
            "cell rev2 + tests/auctions/test_mechanisms.py::test_payments_are_the_virtual_welfare_and_the"
            "_integral",
        ),
        (
            "Revenue at honest bids",
            "a claim above the optimum without as much regret, or a regret that two lies find",
            "cell c055 + cell c017",
        ),
    ],
    "60b_two_items": [
        (
            "Items with nothing in common",
            "a pair that earns less than two prices, or whole items that earn what the coin does",
            "cell box-whole + tests/auctions/test_mechanisms.py::test_manelli_vincent_menu_exactly +"
            " tests/auctions/test_mechanisms.py::test_box_menu_exactly",
        ),
        (
            "A linear program on a grid",
            "a grid whose lotteries survive another shape of its cells, or a menu above the bound",
            "cell wide-menu + cell wide-tab + tests/auctions/test_mechanisms.py::test_programs_meet_known"
            "_optima",
        ),
        (
            "With two bidders, honesty",
            "a Bayesian optimum that is no larger, or one item for which it is larger",
            "tests/auctions/test_mechanisms.py::test_yao + tests/auctions/test_mechanisms.py::test_pair"
            "_program_contains_one_item_and_one_bidder",
        ),
    ],
    "61_learned_auctions": [
        (
            "For one bidder, learn a menu",
            "a menu that misses an optimum by more than a thousandth, or that a lie improves",
            "tests/auctions/test_regretnet.py::test_a_learned_menu_reaches_the_optima +"
            " tests/auctions/test_regretnet.py::test_a_menu_is_truthful_and_rational",
        ),
        (
            "A net that is trained for revenue",
            "a training without a price of regret that leaves value to a bidder, or leaks little",
            "tests/auctions/test_regretnet.py::test_greed_takes_everything",
        ),
        (
            "With a price that adapts",
            "a net that sells one item alone to the bidder of (0.05, 0.90)",
            "tests/test_results.py::test_recorded_nets_sell_a_blurred_bundle_and_not_one_item_alone",
        ),
    ],
    "61b_honest_worth": [
        (
            "Every search for lies",
            "shared lies that find the regret of eight items, or small steps that cross the support",
            "tests/test_results.py::test_with_eight_items_lies_shared_in_a_batch_hide_the_regret_and"
            "_the_careless_search_sees_none + tests/auctions/test_regretnet.py::test_small_steps"
            "_cannot_cross_the_support",
        ),
        (
            "A regret that looks negligible",
            "a menu made of a net that a lie improves, or that earns less than is guaranteed",
            "tests/auctions/test_regretnet.py::test_a_net_as_a_menu_is_truthful_and_keeps_the_guarantee",
        ),
        (
            "Made honest, nets",
            "a gentle start that is worth the bundle when honest, or a steep one that is not",
            "tests/test_results.py::test_a_steep_start_passes_the_bundle_and_twice_the_width_or_the"
            "_steps_do_not",
        ),
    ],
    "61c_markets": [
        (
            "A context says where",
            "a value that depends on the contexts through more than one number",
            "tests/auctions/test_markets.py::test_values_stand_where_the_contexts_put_them",
        ),
        (
            "Item-wise Myerson",
            "a market where the ratio is larger, or a lie that pays in either auction",
            "cell c012 + tests/auctions/test_mechanisms.py::test_myerson_is_feasible_rational_and"
            "_truthful + tests/auctions/test_mechanisms.py::test_vcg_is_truthful_and_equivariant",
        ),
        (
            "With one item Myerson's",
            "an honest auction of one item that earns more, or none of two items that does",
            "tests/auctions/test_mechanisms.py::test_pair_program_contains_one_item_and_one_bidder +"
            " tests/auctions/test_mechanisms.py::test_manelli_vincent_menu_exactly",
        ),
    ],
    "61d_networks": [
        (
            "Equivariance and asymmetry",
            "a shuffle that changes a result, or equal bids that contexts cannot part",
            "tests/auctions/test_networks.py::test_shuffled_tables_give_shuffled_results +"
            " tests/auctions/test_networks.py::test_contexts_break_the_tie_between_equal_bids",
        ),
        (
            "Feasibility and individual",
            "weights with which more than an item is sold, or an honest bidder loses",
            "tests/auctions/test_networks.py::test_every_network_is_feasible_and_rational",
        ),
        (
            "Honesty does not",
            "a network with random weights that no lie can exploit",
            "tests/auctions/test_networks.py::test_a_network_with_random_weights_is_not_honest",
        ),
    ],
    "61e_search": [
        (
            "Values of one bidder",
            "a group whose table is not that of its own lies, or a step that is hardly cheaper",
            "cell c045 + tests/auctions/test_regretnet.py::test_in_batch_is_a_search_over_its_own_values",
        ),
        (
            "Wide and near misreports",
            "a near misreport that does not climb, or a twin with other weights",
            "tests/auctions/test_search.py::test_near_misreports_climb +"
            " tests/auctions/test_search.py::test_a_twin_follows_and_has_no_gradients_of_weights",
        ),
        (
            "The loss of a step",
            "two steps of one seed that differ, or a loss that is no price times regret",
            "tests/auctions/test_search.py::test_a_step_is_one_function_of_a_price_and_of_what_a_seed_drew",
        ),
    ],
    "62_citransnet": [
        (
            "Equivariance and asymmetry",
            "a size at which a shuffle changes a result or an honest bidder loses",
            "cell d004b + tests/auctions/test_networks.py::test_shuffled_tables_give_shuffled_results +"
            " tests/auctions/test_networks.py::test_every_network_is_feasible_and_rational",
        ),
        (
            "Honesty is trained",
            "a hasty price that still sells, a slow one that does not, or revenue far from Myerson's",
            "cell c050 + tests/test_results.py::test_one_item_with_contexts_is_sold_as_myerson_sells_it",
        ),
        (
            "The borders between bidders",
            "reserves that are Myerson's, or a lone bidder who is charged no more than by the optimum",
            "cell d007 + cell c066",
        ),
    ],
    "62b_what_it_leaks": [
        (
            "Training sees a part",
            "a training that sees what a search finds, or lies of one item that gain little",
            "cell e007a + tests/test_results.py::test_how_much_of_the_regret_a_training_with_several"
            "_items_sees",
        ),
        (
            "An equivariant network runs",
            "one size that teaches honesty elsewhere, or several that teach it for one bidder",
            "tests/test_results.py::test_one_size_teaches_honesty_at_that_size_and_seven_sizes_teach"
            "_it_in_larger_markets",
        ),
        (
            "A claim is not yet revenue",
            "a claim outside G that survives the discount, or not just two of its three seeds",
            "tests/test_results.py::test_discounted_claims_of_all_settings_but_one"
            "_fall_below_item_wise_myerson",
        ),
    ],
    "69_auction_lab": [
        (
            "Contexts move reserves",
            "a network that keeps the item in a corner without values, or errs where values lie",
            "tests/auctions/test_auction_lab.py::test_the_lines_are_myersons_borders +"
            " tests/auctions/test_auction_lab.py::test_the_recorded_network_follows_myerson_at"
            "_likely_values_and_not_in_a_corner",
        ),
        (
            "Sellers rank in one order",
            "claims and worth that put the nets in the same order",
            "tests/test_results.py::test_the_largest_claim_belongs_to_the_net_that_is_worth_least",
        ),
        (
            "A lie that gains",
            "a careless start that finds a lie, or a seller who loses no more than the bidder gains",
            "tests/auctions/test_auction_lab.py::test_small_gains_cost_the_seller_much_and_one"
            "_careless_start_finds_none",
        ),
    ],
}
