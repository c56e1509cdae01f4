/* What stands for cuda/ where that is not built (cuda/cuda.cmake). A file of its own, so that a program which brings
 * another kf_cuda_open, as tests/cuda_on_cpu does, links that instead. */
#include "device/device.h"

kf_status kf_cuda_open(const kf_device_opts *o, kf_device **out) {
    (void)o, (void)out;
    return KF_FAIL(KF_ERR_UNSUPPORTED, "device cuda: this program was built without CUDA; build it where nvcc is in "
                                       "PATH (cmake says whether it was found), or take --device cpu");
}
