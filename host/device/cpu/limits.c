/* What this process may use of the machine: memory and cores, by the machine's size and the control group's limits. */
#include "device/cpu/cpu.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/sysinfo.h>

/* The number in a control group's file; SIZE_MAX where there is none or it says "max". */
static size_t limit_of(const char *path) {
    FILE *f = fopen(path, "re");
    unsigned long long n = SIZE_MAX;
    if (f) {
        if (fscanf(f, "%llu", &n) != 1) n = SIZE_MAX;
        fclose(f);
    }
    return (size_t)n;
}

size_t kf_cpu_memory_bytes(void) {
    struct sysinfo si;
    size_t bytes = SIZE_MAX;
    if (sysinfo(&si) == 0) bytes = (size_t)si.totalram * si.mem_unit;
    size_t v2 = limit_of("/sys/fs/cgroup/memory.max");
    size_t v1 = limit_of("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    if (v2 < bytes) bytes = v2;
    if (v1 < bytes) bytes = v1;
    return bytes;
}

/* Whole cores of a control group's quota, rounded up; INT_MAX without one. */
static int quota_cores(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    long quota = 0, period = 0;
    if (f) {
        if (fscanf(f, "%ld %ld", &quota, &period) != 2) quota = 0;
        fclose(f);
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : INT_MAX;
}

int kf_cpu_threads_allowed(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = quota_cores();
    return n < quota ? n : quota;
}
