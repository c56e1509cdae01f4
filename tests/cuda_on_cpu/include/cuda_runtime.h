/* Found before the toolkit's cuda_runtime.h when g++ compiles cuda/ for the CPU runner: the toolkit's header, whose
 * types and declarations stay as they are, and behind it the built-ins of device code. */
#ifndef KF_ONCPU_CUDA_RUNTIME_H
#define KF_ONCPU_CUDA_RUNTIME_H

#define KF_CUDA_ON_CPU 1
#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#include_next <cuda_runtime.h>
#include "device_code.h"
#include "device_math.h"
#include "primitives.h"

#endif
