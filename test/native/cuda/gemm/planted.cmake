# Faults planted in the kernels of the products with float weights.
function(plant_gemm name variant file from to)
  set(kernel gemm_${variant})
  if(variant STREQUAL gemv)
    plant(gemm gemm_${name} gemm/gemv.cu gemm/${file} "${from}" "${to}"
      gemv_1=planted_gemm_${name}_1 gemv_2=planted_gemm_${name}_2 gemv_4=planted_gemm_${name}
      gemv_1_f16=planted_gemm_${name}_f16_1 gemv_2_f16=planted_gemm_${name}_f16_2
      gemv_4_f16=planted_gemm_${name}_f16)
  else()
    plant(gemm gemm_${name} gemm/${kernel}.cu gemm/${file} "${from}" "${to}" ${kernel}=planted_gemm_${name})
  endif()
endfunction()

if(NOT AUTOGLM_SANITIZE)
  target_sources(autoglm_cuda_gemm_tests PRIVATE gemm/planted_entries.cpp)
  target_compile_definitions(autoglm_cuda_gemm_tests PRIVATE AUTOGLM_HAS_PLANTED_FAULTS)
  plant_gemm(no_barrier_for_stages 32x64 gemm_tile.cuh
    "        sync_threads();\n        load_fragments" "        load_fragments")
  plant_gemm(no_barrier_at_start 16x64 gemm_tile.cuh "  sync_threads();\n  Fragments" "  Fragments")
  plant_gemm(no_barrier_in_warp 16x64 gemm_tile.cuh
    "    sync_warp();\n    if (args.epilogue" "    if (args.epilogue")
  plant_gemm(too_few_copies_waited_for 64x128 gemm_tile.cuh
    "wait_for_copies<Tile::kStages - 2>();\n        sync" "wait_for_copies<Tile::kStages - 1>();\n        sync")
  plant_gemm(wrong_matrix 128x128 gemm_tile.cuh "lane / 8 % 2" "lane / 16 % 2")
  plant_gemm(k_too_far 128x256 gemm_tile.cuh "kChunkBf16s < args.w.k;" "kChunkBf16s <= args.w.k;")
  plant_gemm(early_ticket 16x64 gemm_tile.cuh "take_ticket(ticket) + 1" "take_ticket(ticket) + 2")
  plant_gemm(ticket_left 32x64 gemm_tile.cuh "if (is_last != 0) *ticket = 0;" "")
  plant_gemm(next_expert 16x64 gemm_tile.cuh "ballot(end_tile <= row_tile)" "ballot(end_tile < row_tile)")
  plant_gemm(gate_as_up 64x128 gemm_tile.cuh "sums[j + kGateRows]" "sums[j + kGateRows / 2]")
  plant_gemm(no_saturation 16x64_f16 gemm_tile.cuh
    "return pack_f16_saturated(float_of_bits(word << 16), float_of_bits(word & 0xffff0000u))"
    "return (half_of_float(float_of_bits(word << 16)) | uint32_t{half_of_float(float_of_bits(word & 0xffff0000u))} << 16)")
  plant_gemm(halves_swapped 64x128_f16 gemm_tile.cuh
    "float_of_bits(word << 16), float_of_bits(word & 0xffff0000u))"
    "float_of_bits(word & 0xffff0000u), float_of_bits(word << 16))")
  plant_gemm(wrong_fragment 128x128_f16 gemm_tile.cuh
    "word = fragments.in[row][i];" "word = fragments.in[row][kLayout == DeviceLayout::f16 ? i ^ 1 : i];")
  plant_gemm(wrong_element 128x256_f16 gemm_128x256_f16.cu "DeviceLayout::f16" "DeviceLayout::bf16")
  plant_gemm(no_barrier_for_sums gemv dot_products.cuh "  sync_threads();\n" "")
  plant_gemm(chunk_left_out gemv dot_products.cuh
    "first < k; first +=" "first < k - kChunkBf16s; first +=")
endif()
