/* The inner loops for x86 processors with AVX-512 F, BW, DQ and VL (cmake/cpu.cmake has this file's flags). */
#ifdef __AVX512F__
#define VW 16
#define TABLE kf_cpu_loops_avx512
#include "device/cpu/loops/table.h"
#endif
