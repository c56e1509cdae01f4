/* What the runner tells the sanitizers. It is not instrumented by Address- and ThreadSanitizer itself (CMakeLists.txt
 * defines KF_ONCPU_ASAN or KF_ONCPU_TSAN instead), but is by MemorySanitizer (KF_ONCPU_MSAN), which must see all
 * writes. */
#ifndef KF_ONCPU_SANITIZERS_H
#define KF_ONCPU_SANITIZERS_H

#include "runtime.h"

#include <cstring>
#include <pthread.h>

#if defined(KF_ONCPU_ASAN) || defined(KF_ONCPU_TSAN) || defined(KF_ONCPU_MSAN)
#define KF_ONCPU_SANITIZED 1
#else
#define KF_ONCPU_SANITIZED 0
#endif

extern "C" {
void __sanitizer_start_switch_fiber(void **, const void *, size_t);
void __sanitizer_finish_switch_fiber(void *, const void **, size_t *);
void __asan_poison_memory_region(void const volatile *, size_t);
void __asan_unpoison_memory_region(void const volatile *, size_t);
void __asan_set_error_report_callback(void (*)(const char *));
void *__tsan_create_fiber(unsigned);
void *__tsan_get_current_fiber();
void __tsan_switch_to_fiber(void *, unsigned);
void __tsan_set_fiber_name(void *, const char *);
void __tsan_acquire(void *);
void __tsan_release(void *);
void __msan_poison(const volatile void *, size_t);
void __msan_set_death_callback(void (*)());
}

namespace oncpu {

/* Touched from here on is an error, or is none. */
static inline void poison(void *p, size_t bytes) {
    (void)p, (void)bytes;
#ifdef KF_ONCPU_ASAN
    __asan_poison_memory_region(p, bytes);
#endif
}
static inline void unpoison(void *p, size_t bytes) {
    (void)p, (void)bytes;
#ifdef KF_ONCPU_ASAN
    __asan_unpoison_memory_region(p, bytes);
#endif
}

/* memset, but no access that ThreadSanitizer would see. */
static inline void fill(void *p, int byte, size_t bytes) {
#ifdef KF_ONCPU_TSAN
    asm volatile("rep stosb" : "+D"(p), "+c"(bytes) : "a"(byte) : "memory");
#else
    memset(p, byte, bytes);
#endif
}

/* NaN in every format, and for MemorySanitizer not written at all. */
constexpr uint8_t UNWRITTEN = 0xff;
static inline void forget(void *p, size_t bytes) {
    fill(p, UNWRITTEN, bytes);
#ifdef KF_ONCPU_MSAN
    __msan_poison(p, bytes);
#endif
}

/* The bounds of this host thread's stack, for AddressSanitizer. */
static inline void sanitizers_know_host_stack(fiber *host) {
    (void)host;
#ifdef KF_ONCPU_ASAN
    static thread_local void *stack;
    static thread_local size_t bytes;
    pthread_attr_t attributes;
    if (!stack && pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &stack, &bytes);
        pthread_attr_destroy(&attributes);
    }
    host->stack = (char *)stack;
    host->stack_size = bytes;
#endif
}

} // namespace oncpu

#endif
