/* The inner loops for any processor: vectors of 4 floats, which every 64-bit one has. Also chooses among the tables. */
#define VW 4
#define TABLE kf_cpu_loops_generic
#include "device/cpu/loops/table.h"
