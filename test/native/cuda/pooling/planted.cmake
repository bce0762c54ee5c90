# Faults planted in the kernel of pooling.
if(NOT AUTOGLM_SANITIZE)
  target_sources(autoglm_cuda_pooling_tests PRIVATE pooling/planted_entries.cpp)
  target_compile_definitions(autoglm_cuda_pooling_tests PRIVATE AUTOGLM_HAS_PLANTED_FAULTS)
  set(kernel pooling/pool_rows.cu)
  plant(pooling pool_keeps_sum ${kernel} ${kernel} "work.begins ? 0.0 : kept" "kept" pool_rows=planted_pool_keeps_sum)
  plant(pooling pool_row_too_few ${kernel} ${kernel} "row < work.num_rows" "row + 1 < work.num_rows"
    pool_rows=planted_pool_row_too_few)
  plant(pooling pool_in_f32 ${kernel} ${kernel} "double sum =" "float sum =" pool_rows=planted_pool_in_f32)
endif()
