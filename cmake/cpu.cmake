# The CPU device's inner loops: each instruction set's file has its own flags, the rest of the tree none, so one
# program runs on every processor of its kind. -O3 in every build: unoptimised loops would make tests wait.
set(loops ${CMAKE_SOURCE_DIR}/host/device/cpu/loops)
set_source_files_properties(${loops}_generic.c PROPERTIES COMPILE_OPTIONS "-O3")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512)
    set_source_files_properties(${loops}_avx2.c PROPERTIES COMPILE_OPTIONS "-O3;-mavx2;-mfma")
    set_source_files_properties(${loops}_avx512.c PROPERTIES COMPILE_OPTIONS "-O3;${avx512}")
    set_source_files_properties(${loops}_avx512_bf16.c PROPERTIES COMPILE_OPTIONS "-O3;${avx512};-mavx512bf16")
endif()
