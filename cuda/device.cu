/* Opening a CUDA device: is there a driver, a card, and is the card new enough? The text of a refusal names what was
 * found. The operations are kernels of their own files; as long as they are not all there the card is refused by name,
 * since a device that computes only part of device.h's table would be worse than none.
 *
 * To try: build/release/bin/kefu generate --device cuda …
 */
#include <cuda_runtime_api.h>

extern "C" {
#include "device/device.h"
}

enum { MIN_MAJOR = 8 }; /* sm_80: bf16 on tensor cores and cp.async */

extern "C" kf_status kf_cuda_open(const kf_device_opts *o, kf_device **out) {
    (void)o, (void)out;
    int driver = 0, n_cards = 0;
    cudaError_t e = cudaDriverGetVersion(&driver);
    if (e == cudaSuccess && driver > 0) e = cudaGetDeviceCount(&n_cards);
    if (e != cudaSuccess || driver == 0 || n_cards == 0)
        return KF_FAIL(
            KF_ERR_UNSUPPORTED,
            "device cuda: no usable GPU here (%s; driver for CUDA %d.%d, this program wants %d.%d or newer); "
            "take --device cpu",
            e != cudaSuccess ? cudaGetErrorString(e) : "no card found", driver / 1000, driver % 1000 / 10,
            CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    cudaDeviceProp card;
    e = cudaGetDeviceProperties(&card, 0);
    if (e != cudaSuccess) return KF_FAIL(KF_ERR_DEVICE, "device cuda: card 0: %s", cudaGetErrorString(e));
    if (card.major < MIN_MAJOR)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "device cuda: card 0 is %s, sm_%d%d; sm_%d0 or newer is wanted", card.name,
                       card.major, card.minor, MIN_MAJOR);
    return KF_FAIL(KF_ERR_UNSUPPORTED,
                   "device cuda: card 0 is %s, sm_%d%d, but this version has no CUDA operations yet; take --device cpu",
                   card.name, card.major, card.minor);
}
