# Faults planted in the attention kernels.
function(plant_attention name kernel file from to)
  string(REGEX REPLACE "\\.cu$" "" entry ${kernel})
  plant(attention ${name} attention/${kernel} attention/${file} "${from}" "${to}"
    ${entry}_64=planted_${name} ${entry}_128=planted_${name}_128)
endfunction()

if(NOT AUTOGLM_SANITIZE)
  target_sources(autoglm_cuda_attention_tests PRIVATE attention/planted_entries.cpp)
  target_compile_definitions(autoglm_cuda_attention_tests PRIVATE AUTOGLM_HAS_PLANTED_FAULTS)
  plant_attention(no_barrier_for_scores attention_decode.cu attention_decode.cu
    "  sync_threads();\n#pragma unroll" "#pragma unroll")
  plant_attention(no_barrier_for_stages attention_prefill.cu attention_prefill.cu
    "    sync_threads();\n  }\n  write_result" "  }\n  write_result")
  plant_attention(next_page attention_decode.cu attention_tile.cuh "key / kPageTokens]" "(key + 1) / kPageTokens]")
  plant_attention(wrong_lane attention_decode.cu attention_tile.cuh
    "lane_of_thread() % 4 * 2;\n      queries" "lane_of_thread() % 4 * 2 % 4;\n      queries")
  plant_attention(not_transposed attention_prefill.cu attention_tile.cuh
    "load_matrices_transposed(words" "load_matrices(words")
  plant_attention(early_ticket attention_decode.cu attention_decode.cu
    "take_ticket(ticket) + 1" "take_ticket(ticket) + 2")
  plant_attention(key_too_many attention_prefill.cu attention_tile.cuh "key >= rows.end_key" "key > rows.end_key")
endif()
