# Wires cuda/ into the engine where nvcc is found; without it the engine has no CUDA device and says so when asked for one.
# Sanitized builds leave it out: nvcc does not take their options.
if(NOT KF_CUDA OR KF_SANITIZE)
    message(STATUS "CUDA device: off")
    return()
endif()
find_program(KF_NVCC nvcc HINTS /usr/local/cuda/bin ENV CUDA_PATH PATH_SUFFIXES bin)
if(NOT KF_NVCC)
    message(STATUS "CUDA device: not built, no nvcc found (the CPU and null devices are)")
    return()
endif()
set(CMAKE_CUDA_COMPILER ${KF_NVCC})
set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90) # 90: code and PTX, which newer cards compile for themselves
enable_language(CUDA)
message(STATUS "CUDA device: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}")

file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cuda/*.cu)
target_sources(kefu_engine PRIVATE ${cuda_sources})
set_target_properties(kefu_engine PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}" CUDA_STANDARD 17
                      CUDA_RUNTIME_LIBRARY Static)
target_compile_definitions(kefu_engine PRIVATE KF_HAVE_CUDA)
