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
get_filename_component(cuda_root ${KF_NVCC} DIRECTORY)
find_library(KF_CUBLASLT cublasLt HINTS ${cuda_root}/../lib64 ${cuda_root}/../lib)
if(NOT KF_CUBLASLT)
    message(STATUS "CUDA device: not built, no libcublasLt beside ${KF_NVCC} (the CPU and null devices are)")
    return()
endif()
# One architecture in everyday builds: sm_80's code, and PTX that every newer card compiles for itself; or what
# -DCMAKE_CUDA_ARCHITECTURES says (native: this machine's card).
option(KF_CUDA_ALL "build the CUDA device's kernels for every architecture, as releases are" OFF)
set(CMAKE_CUDA_COMPILER ${KF_NVCC})
if(KF_CUDA_ALL)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90)
elseif(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80)
endif()
enable_language(CUDA)
message(STATUS "CUDA device: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")

file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cuda/*.cu)
target_sources(kefu_engine PRIVATE ${cuda_sources})
set_source_files_properties(${CMAKE_SOURCE_DIR}/host/device/no_cuda.c PROPERTIES HEADER_FILE_ONLY ON)
set_target_properties(kefu_engine PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}" CUDA_STANDARD 20
                      CUDA_RUNTIME_LIBRARY Static)
# What is fused is written in the kernels: --fmad=false. Only warnings of nvcc's own stop a build.
target_compile_options(kefu_engine PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:--fmad=false;-lineinfo;$<$<BOOL:${KF_WERROR}>:--Werror=all-warnings>>")
target_link_libraries(kefu_engine PRIVATE ${KF_CUBLASLT})
