# Faults planted in the kernels of experts.
function(plant_expert name kernel entries file from to)
  set(renamed)
  set(suffix "")
  foreach(entry ${entries})
    list(APPEND renamed ${entry}=planted_${name}${suffix})
    string(APPEND suffix _)
  endforeach()
  plant(experts ${name} experts/${kernel} experts/${file} "${from}" "${to}" ${renamed})
endfunction()

if(NOT AUTOGLM_SANITIZE)
  target_sources(autoglm_cuda_experts_tests PRIVATE experts/planted_entries.cpp)
  target_compile_definitions(autoglm_cuda_experts_tests PRIVATE AUTOGLM_HAS_PLANTED_FAULTS)
  set(route "route_128;route_256;route_512")
  set(route_few "route_few_128;route_few_256;route_few_512")
  set(pairs "expert_pairs_alone;expert_pairs_count;expert_pairs_place")
  set(place "expert_pairs_place;expert_pairs_count;expert_pairs_alone")
  plant_expert(experts_no_barrier_for_groups route.cu "${route}" route_row.cuh
    "    sync_warp();\n    const uint32_t groups" "    const uint32_t groups")
  plant_expert(experts_last_of_equals route.cu "${route}" route_row.cuh
    "slot = kSlots - 1; slot >= 0; --slot" "slot = 0; slot < kSlots; ++slot")
  plant_expert(experts_best_of_group_alone route.cu "${route}" route_row.cuh
    "size > 1 ? best + second : best" "best")
  plant_expert(experts_own_lane_twice route.cu "${route}" route_row.cuh "mask = kWarpSize / 2; mask > 0; mask /= 2) value"
    "mask = kWarpSize / 2; mask > 1; mask /= 2) value")
  plant_expert(experts_no_barrier_for_choices route_few.cu "${route_few}" pair_order.cuh
    "storage.rows[word][thread_x()] = 0;\n  sync_threads();" "storage.rows[word][thread_x()] = 0;")
  plant_expert(experts_no_barrier_for_rows expert_pairs.cu "${pairs}" pair_order.cuh
    "  sync_threads();\n  const int count" "  const int count")
  plant_expert(experts_no_barrier_for_sums expert_pairs.cu "${pairs}" pair_order.cuh
    "  sync_threads();\n  int before" "  int before")
  plant_expert(experts_no_barrier_for_places expert_pairs.cu "${pairs}" pair_order.cuh
    "  sync_threads();\n  const int64_t offset" "  const int64_t offset")
  plant_expert(experts_one_row_earlier expert_pairs.cu "${pairs}" pair_order.cuh
    "((1u << row % 32) - 1)" "((1u << row % 32) >> 1)")
  plant_expert(experts_padding_counts expert_pairs.cu "${pairs}" pair_order.cuh
    "i < chunk.num_valid * args" "i < chunk.num_rows * args")
  plant_expert(experts_chunk_too_few expert_pairs.cu "${place}" expert_pairs.cu
    "chunk < block_x()" "chunk + 1 < block_x()")
  plant_expert(experts_expert_too_few combine.cu "combine_by_4;combine_by_1" combine.cu
    "j < num_chosen; ++j" "j + 1 < num_chosen; ++j")
endif()
