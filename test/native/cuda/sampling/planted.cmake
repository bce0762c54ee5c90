# The sampler of the CPU, which the kernels must agree with, and faults planted in the kernels.
target_sources(autoglm_cuda_sampling_tests PRIVATE
  ${PROJECT_SOURCE_DIR}/native/runtime/sampler.cpp ${PROJECT_SOURCE_DIR}/native/runtime/row.cpp)

function(plant_sampling name kernel file from to)
  plant(sampling ${name} sampling/sampling_${kernel}.cu sampling/${file} "${from}" "${to}"
    sampling_${kernel}=planted_${name})
endfunction()

if(NOT AUTOGLM_SANITIZE)
  target_sources(autoglm_cuda_sampling_tests PRIVATE sampling/planted_entries.cpp)
  target_compile_definitions(autoglm_cuda_sampling_tests PRIVATE AUTOGLM_HAS_PLANTED_FAULTS)
  plant_sampling(no_barrier_for_bins weigh sampling_weigh.cu
    "clear(storage.bins);\n  sync_threads();" "clear(storage.bins);")
  plant_sampling(no_barrier_for_tops scan sampling_scan.cu
    "  sync_threads();\n  sort_largest(storage, static_cast<int>" "  sort_largest(storage, static_cast<int>")
  plant_sampling(early_sample_ticket weigh sampling_block.cuh
    "take_ticket(view.ticket()) + 1" "take_ticket(view.ticket()) + 2")
  plant_sampling(wrong_sum_lane weigh sampling_block.cuh "lane_of_thread() >= distance" "lane_of_thread() > distance")
  plant_sampling(wrong_mask_bit scan sampling_block.cuh ">> (token % 32)" ">> (token % 16)")
  plant_sampling(counts_left scan sampling_scan.cu "*counts = Counts4{};" "")
  plant_sampling(prompt_as_output count sampling_count.cu
    "set_bits_global(counts + history[i], kIsInPrompt)" "take_global(counts + history[i], 1)")
  plant_sampling(border_off_by_one limit sampling_limit.cu
    "before < amount && amount - before <= measure" "before <= amount && amount - before < measure")
  plant_sampling(border_cut_short limit sampling_limit.cu "border.rank = storage.rest;" "")
  plant_sampling(min_p_of_sure_ignored limit sampling_limit.cu
    "if (weight >= weigher.least) mass += weight;" "mass += weight;")
  plant_sampling(one_open_bin weigh sampling_weigh.cu
    "mass_to_keep(view.row.top_p, most)" "mass_to_keep(view.row.top_p, fewest)")
  plant_sampling(list_half_filled limit sampling_limit.cu "place < kListTokens" "place < kListTokens / 2")
endif()
