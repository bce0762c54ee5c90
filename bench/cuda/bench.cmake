# The benchmarks as an executable; ARGN: what defines embedded_modules. `cuda_options` are the caller's. The engine's
# GPU half is compiled into it unless the engine has it already.
set(bench_folder ${CMAKE_CURRENT_LIST_DIR})
get_filename_component(bench_root ${bench_folder}/../.. ABSOLUTE)
file(GLOB bench_sources CONFIGURE_DEPENDS ${bench_folder}/*.cpp ${bench_folder}/models/*.cpp)
if(NOT AUTOGLM_CUDA)
  file(GLOB_RECURSE bench_engine CONFIGURE_DEPENDS ${bench_root}/native/cuda/*.cpp ${bench_root}/native/model/gpu/*.cpp)
  list(FILTER bench_engine EXCLUDE REGEX "embedded_kernels")
endif()

function(add_gpu_bench name)
  add_executable(${name} ${bench_sources} ${bench_engine} ${ARGN})
  target_include_directories(${name} PRIVATE ${bench_folder} ${bench_folder}/.. ${bench_root}/native ${bench_root}/test/native)
  target_compile_options(${name} PRIVATE ${cuda_options})
  target_link_libraries(${name} PRIVATE autoglm_engine Threads::Threads ${CMAKE_DL_LIBS})
endfunction()
