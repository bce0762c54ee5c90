# The benchmarks as an executable; ARGN: what defines embedded_modules. `cuda_options` are the caller's.
set(bench_folder ${CMAKE_CURRENT_LIST_DIR})
get_filename_component(bench_root ${bench_folder}/../.. ABSOLUTE)
file(GLOB bench_sources CONFIGURE_DEPENDS ${bench_folder}/*.cpp)
file(GLOB_RECURSE bench_engine CONFIGURE_DEPENDS ${bench_root}/native/cuda/*.cpp)
list(FILTER bench_engine EXCLUDE REGEX "embedded_kernels")

function(add_gpu_bench name)
  add_executable(${name} ${bench_sources} ${bench_engine} ${ARGN})
  target_include_directories(${name} PRIVATE ${bench_folder} ${bench_root}/native ${bench_root}/test/native)
  target_compile_options(${name} PRIVATE ${cuda_options})
  target_link_libraries(${name} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
endfunction()
