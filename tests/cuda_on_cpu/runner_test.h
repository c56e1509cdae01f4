/* What the runner's own tests share: a launch, device buffers, and `expect_noticed`, which runs a mistake in a child
 * process and reads what the runner or the sanitizer of this build says of it. */
#ifndef KF_ONCPU_RUNNER_TEST_H
#define KF_ONCPU_RUNNER_TEST_H

#include "runtime.h"
#include "runner.h"

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
}
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#define assert_cuda(call_) assert_int_equal((int)(call_), (int)cudaSuccess)

/* RUN(grid, block, kernel, arguments…) and waits for it. */
#define RUN(grid, shape, ...)                                                                                          \
    do {                                                                                                               \
        LAUNCH(nullptr, grid, shape, __VA_ARGS__);                                                                     \
        assert_cuda(cudaDeviceSynchronize());                                                                          \
    } while (0)
#define LAUNCH(stream_, grid, shape, ...)                                                                              \
    do {                                                                                                               \
        cudaLaunchConfig_t launch_ = {};                                                                               \
        launch_.gridDim = dim3(grid);                                                                                  \
        launch_.blockDim = dim3(shape);                                                                                \
        launch_.stream = stream_;                                                                                      \
        assert_cuda(cudaLaunchKernelEx(&launch_, __VA_ARGS__));                                                        \
    } while (0)

/* n elements of device memory, zero or as given; freed at the end. */
template <class T> struct device_array {
    T *p = nullptr;
    size_t n;
    explicit device_array(size_t n_) : n(n_) {
        assert_cuda(cudaMalloc((void **)&p, n * sizeof(T)));
        assert_cuda(cudaMemset(p, 0, n * sizeof(T)));
        assert_cuda(cudaDeviceSynchronize()); /* streams do not wait for the default one */
    }
    explicit device_array(const std::vector<T> &v) : n(v.size()) {
        assert_cuda(cudaMalloc((void **)&p, n * sizeof(T)));
        assert_cuda(cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice));
    }
    ~device_array() {
        (void)cudaFree(p);
    }
    std::vector<T> host() const {
        std::vector<T> v(n);
        assert_cuda(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
        return v;
    }
};

/* Which build this is. */
#if defined(__SANITIZE_ADDRESS__)
enum { PLAIN, ASAN = 1, TSAN = 0, MSAN = 0 };
#elif defined(__SANITIZE_THREAD__)
enum { PLAIN, ASAN = 0, TSAN = 1, MSAN = 0 };
#elif defined(KF_ONCPU_MSAN)
enum { PLAIN, ASAN = 0, TSAN = 0, MSAN = 1 };
#else
enum { PLAIN = 1, ASAN = 0, TSAN = 0, MSAN = 0 };
#endif

#ifdef __SANITIZE_THREAD__
extern "C" const char *__tsan_default_options() {
    return "halt_on_error=1"; /* a child's race ends it */
}
#endif

/* What the child said, and whether it ended as one that was well. */
static inline bool child_is_well(void (*mistake)(), char *said, size_t size) {
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    fflush(nullptr);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        alarm(60);
        mistake();
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    char chunk[4096];
    for (ssize_t got; (got = read(ends[0], chunk, sizeof chunk)) > 0;) {
        const size_t take = n + (size_t)got < size ? (size_t)got : size - 1 - n;
        memcpy(said + n, chunk, take);
        n += take;
    }
    said[n] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The mistake ends the process, and what is said has each of the texts: what, and the kernel or the place. */
static inline void expect_noticed(void (*mistake)(), const char *what, const char *where) {
    static char said[1 << 16];
    const bool well = child_is_well(mistake, said, sizeof said);
    if (well || !strstr(said, what) || !strstr(said, where))
        fail_msg("\"%s\" and \"%s\" are not in what was said%s:\n%s", what, where, well ? ", the process is well" : "",
                 said);
}

#endif
