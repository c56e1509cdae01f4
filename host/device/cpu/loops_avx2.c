/* The inner loops for x86 processors with AVX2 and FMA (cmake/cpu.cmake has this file's flags). */
#ifdef __AVX2__
#define VW 8
#define TABLE kf_cpu_loops_avx2
#include "device/cpu/loops/table.h"
#endif
