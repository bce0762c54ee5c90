# The check as an executable: the tests of every area, and the host code of the engine that they need. For the test on
# the fake driver here, and for bench/cuda, where the device is real. `cuda_options` are the caller's.
set(check_folder ${CMAKE_CURRENT_LIST_DIR})
get_filename_component(check_root ${check_folder}/../../../.. ABSOLUTE)
set(check_tests
  attention/attention_test gemm/lora_test gemm/product_test gemm/repack_floats_test heads/heads_test experts/pairs_test
  experts/route_test quantized/quantized_test quantized/repack_test rows/kv_append_test
  rows/rows_test sampling/sampling_test)
file(GLOB_RECURSE check_engine CONFIGURE_DEPENDS ${check_root}/native/cuda/*.cpp)
list(FILTER check_engine EXCLUDE REGEX "embedded_kernels")

# ARGN: what defines embedded_modules.
function(add_gpu_check name)
  # Fixtures of two areas use one name for different things: each area gets a namespace of its own.
  foreach(each ${check_tests})
    get_filename_component(area ${each} DIRECTORY)
    set(source ${check_folder}/../${each}.cpp)
    set_source_files_properties(${source} PROPERTIES COMPILE_DEFINITIONS test=test_${area})
    list(APPEND tests ${source})
  endforeach()
  add_executable(${name} ${check_folder}/main.cpp ${check_folder}/host_memory.cpp ${check_folder}/device_launch.cpp
    ${tests} ${check_engine} ${check_root}/native/runtime/sampler.cpp ${check_root}/native/runtime/row.cpp ${ARGN})
  # This folder first: its emulated_launch.h launches on the device.
  target_include_directories(${name} PRIVATE ${check_folder} ${check_folder}/.. ${check_folder}/../..
    ${check_folder}/../emulator ${check_root}/native)
  target_compile_options(${name} PRIVATE ${cuda_options})
  target_link_libraries(${name} PRIVATE GTest::gtest Threads::Threads ${CMAKE_DL_LIBS})
endfunction()
