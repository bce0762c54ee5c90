# Faults planted in the products of heads.
function(plant_heads name file from to)
  plant(heads heads_${name} heads/heads_product.cu heads/${file} "${from}" "${to}"
    heads_product_few_f32=planted_heads_${name}_few_f32 heads_product_few_bf16=planted_heads_${name}_few
    heads_product_many_f32=planted_heads_${name}_many_f32 heads_product_many_bf16=planted_heads_${name}_many)
endfunction()

if(NOT AUTOGLM_SANITIZE)
  target_sources(autoglm_cuda_heads_tests PRIVATE heads/planted_entries.cpp)
  target_compile_definitions(autoglm_cuda_heads_tests PRIVATE AUTOGLM_HAS_PLANTED_FAULTS)
  plant_heads(no_barrier heads_product.cu "    sync_threads();\n    const int next" "    const int next")
  plant_heads(no_wait heads_product.cu "wait_for_copies<kAhead - 1>()" "wait_for_copies<kAhead>()")
  plant_heads(wrong_lane heads_product.cu "i % 2 * 2 + lane / 16" "i % 2 * 2 + lane / 8 % 2")
  plant_heads(k_too_few heads_product.cu "col < args.n && k < args.k" "col < args.n && k + 8 < args.k")
  plant_heads(other_head heads_product.cu "int64_t{place.head} * args.n" "int64_t{place.first_row > 0} * args.n")
endif()
