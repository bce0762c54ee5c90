# Faults planted in the attention kernels, for one head dim. ThreadSanitizer gets those that it can see: a missing
# barrier; AddressSanitizer none, which would end the program at a fault that others find.
function(plant_attention name kernel entry file from to)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/planted/${name})
  file(CONFIGURE OUTPUT ${folder}/cuda/attention/head_dims.def CONTENT
    "#ifdef AUTOGLM_HEAD_DIM\nAUTOGLM_HEAD_DIM(64)\n#endif\n#ifdef AUTOGLM_LATENT\nAUTOGLM_LATENT(64, 48)\n#endif\n" @ONLY)
  set(others attention_decode_latent_64_48 attention_prefill_latent_64_48)
  list(REMOVE_ITEM others ${entry})
  list(TRANSFORM others REPLACE "(.+)" "\\1=planted_${name}_\\1")
  plant(attention ${name} attention/${kernel} attention/${file} "${from}" "${to}" ${entry}=planted_${name} ${others})
endfunction()

if(NOT AUTOGLM_SANITIZE OR AUTOGLM_SANITIZE STREQUAL "thread")
  target_sources(autoglm_cuda_attention_tests PRIVATE attention/planted_entries.cpp)
  target_compile_definitions(autoglm_cuda_attention_tests PRIVATE AUTOGLM_HAS_PLANTED_FAULTS)
  plant_attention(no_barrier_for_scores attention_decode_bf16.cu attention_decode_bf16_64 attention_shared_rows.cuh
    "  sync_threads();\n#pragma unroll" "#pragma unroll")
  plant_attention(no_barrier_for_keys attention_prefill_bf16.cu attention_prefill_bf16_64 attention_prefill.cuh
    "    sync_threads();\n    if (next_key < work.end_key) copy_keys" "    if (next_key < work.end_key) copy_keys")
  plant_attention(no_barrier_for_values attention_prefill_bf16.cu attention_prefill_bf16_64 attention_prefill.cuh
    "    sync_threads();\n    if (next_key < work.end_key) copy_values" "    if (next_key < work.end_key) copy_values")
  plant_attention(no_barrier_for_latents attention_latent.cu attention_prefill_latent_64_48 attention_shared_rows.cuh
    "      sync_threads();\n      if (next_key" "      if (next_key")
endif()
if(NOT AUTOGLM_SANITIZE)
  plant_attention(next_page attention_decode_bf16.cu attention_decode_bf16_64 attention_tile.cuh
    "key / kPageTokens]" "(key + 1) / kPageTokens]")
  plant_attention(wrong_lane attention_decode_bf16.cu attention_decode_bf16_64 attention_tile.cuh
    "in[lane_of_thread() % 4 + 4]" "in[lane_of_thread() % 4 + 3]")
  plant_attention(not_transposed attention_prefill_bf16.cu attention_prefill_bf16_64 attention_values.cuh
    "load_matrices_transposed(words" "load_matrices(words")
  plant_attention(early_ticket attention_decode_bf16.cu attention_decode_bf16_64 attention_decode.cuh
    "take_ticket(ticket) + 1" "take_ticket(ticket) + 2")
  plant_attention(key_too_many attention_prefill_bf16.cu attention_prefill_bf16_64 attention_tile.cuh
    "key >= rows.end_key" "key > rows.end_key")
  plant_attention(split_too_late attention_prefill_bf16.cu attention_prefill_bf16_64 attention_prefill.cuh
    "kept = merged_value(is_first ?" "kept = merged_value(true ?")
  plant_attention(odd_dims_first attention_decode_int8.cu attention_decode_int8_64 attention_tile.cuh
    "out[half] = (low & 0xffffu) | high << 16" "out[half] = low")
  plant_attention(scale_of_neighbour attention_prefill_fp8.cu attention_prefill_fp8_64 attention_values.cuh
    "i % 2 == 0 ? scales.low" "i % 2 == 1 ? scales.low")
  plant_attention(value_of_first_dims attention_latent.cu attention_decode_latent_64_48 attention_storage.h
    "kFirstValueByte = (kKeyDim - kValueDim)" "kFirstValueByte = 0")
endif()
