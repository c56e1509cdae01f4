/* What a test may ask of the runner beside CUDA itself: counts of calls, and a device that fails.
 *
 * From the environment, read when the program starts:
 *   KF_ONCPU_SCHED=fwd|rev|rand:SEED                   the order of what nothing orders: threads, blocks, graphs' nodes
 *   KF_ONCPU_LAZY=1                                    streams run only when they are waited for
 *   KF_ONCPU_PROTECT=0                                 the host may touch device memory: faster
 *   KF_ONCPU_CARD=no-driver|old-driver|no-card|sm_75   what cudaGetDeviceCount and its like find
 *   KF_ONCPU_MEMORY=BYTES                              the card's memory; 8 GiB without it
 *   KF_ONCPU_LOST=ERROR                                a cudaError_t's number; SIGUSR1 loses the device with it
 */
#ifndef KF_TESTS_CUDA_ON_CPU_RUNNER_H
#define KF_TESTS_CUDA_ON_CPU_RUNNER_H

#ifdef __cplusplus
extern "C" {
#endif

/* Calls since the program began. */
typedef struct oncpu_counts {
    unsigned long allocations; /* and frees, of device and pinned memory, of streams, events and graphs */
    unsigned long waits;       /* that block the host: synchronisation of device, stream or event */
    unsigned long launches;    /* of kernels by the host: those inside a graph's launch are not counted */
    unsigned long graph_launches;
    unsigned long captures;
} oncpu_counts;
extern oncpu_counts oncpu_calls;

/* From now on every call on the device fails with this cudaError_t, and nothing that is enqueued runs: what CUDA calls
 * a sticky error. 0: the device is there again (which CUDA never does). Any thread, signal handlers included. */
void oncpu_lose_device(int error);

/* The same, when the n-th kernel from now on would run. */
void oncpu_lose_device_after(unsigned long n_kernels, int error);

/* The n-th allocation of device or pinned memory from now on is refused (cudaErrorMemoryAllocation). 0: none is. */
void oncpu_refuse_allocation(unsigned long nth);

#ifdef __cplusplus
}
#endif

#endif
