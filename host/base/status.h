/* Statuses and the per-thread error record: every room reports failures this way.
 *
 * A function that can fail returns kf_status and writes *out only on KF_OK. The status is for code; for people
 * there is a text, set where the failure was seen and extended by nobody:
 *
 *     if (rows != want) return KF_FAIL(KF_ERR_CORRUPT, "%s: tensor %s has %zu rows, config.json wants %zu", ...);
 *     KF_TRY(kf_checkpoint_open(dir, &ckpt));        // passes a failure up and notes this line
 *     ...
 *     fprintf(stderr, "kefu: %s\n", kf_error_text()); // at the program's edge only
 *
 * A text names the thing, what was wanted, what was found and what to change. It never holds a customer's words.
 */
#ifndef KF_BASE_STATUS_H
#define KF_BASE_STATUS_H

#include <stddef.h>

typedef enum kf_status {
    KF_OK = 0,
    KF_ERR_INVALID,     /* an argument or a message from outside is wrong: the sender must change it */
    KF_ERR_TOO_LARGE,   /* over a stated limit: the text says which, and the option that raises it */
    KF_ERR_NOT_FOUND,   /* a file, a tensor, a key that must exist does not */
    KF_ERR_UNSUPPORTED, /* well-formed, but not built, or not built yet */
    KF_ERR_CORRUPT,     /* a file's content contradicts itself, its size or its config */
    KF_ERR_IO,          /* the operating system or the network said no; errno's text is in the record */
    KF_ERR_NO_MEMORY,   /* host or device memory; the text has the size asked for and the size there is */
    KF_ERR_DEVICE,      /* the device failed: everything enqueued on it is lost */
    KF_ERR_OVERLOADED,  /* a bounded queue is full: come back later */
    KF_ERR_CLOSED,      /* the other side has stopped: nothing more will come */
    KF_ERR_DEADLINE,    /* the time given has passed */
    KF_ERR_CANCELLED,   /* the client, or its session, took the request back */
    KF_ERR_BUG,         /* an invariant of ours is broken: aborts in debug and sanitizer builds */
    KF_N_STATUS
} kf_status;

/* A short constant name such as "TOO_LARGE"; "UNKNOWN" for a number that is no status. */
const char *kf_status_name(kf_status s);

/* The text of this thread's last failure, "" if there was none. Valid until this thread's next failure. */
const char *kf_error_text(void);

/* Where the failure was seen and the lines that passed it on, innermost first: "weights.c:88 < bert.c:41".
 * Valid until this thread's next failure. For logs and for developers. */
const char *kf_error_where(void);

/* Forgets this thread's record: for a caller that has dealt with the failure. */
void kf_error_clear(void);

/* Used through KF_FAIL and KF_TRY. kf_error_set returns s. */
kf_status kf_error_set(kf_status s, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
kf_status kf_error_pass(kf_status s, const char *file, int line);

/* The analyzer does not look into other files: it is told that these calls return s. */
#ifdef __clang_analyzer__
#define KF_RETURNS_(s, call) ((void)(call), (s))
#else
#define KF_RETURNS_(s, call) (call)
#endif

#define KF_FAIL(status, ...) KF_RETURNS_((status), kf_error_set((status), __FILE__, __LINE__, __VA_ARGS__))

/* Returns from the calling function when expr is not KF_OK. For functions with nothing to free. */
#define KF_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        kf_status kf_try_s_ = (expr);                                                                                  \
        if (kf_try_s_ != KF_OK) return KF_RETURNS_(kf_try_s_, kf_error_pass(kf_try_s_, __FILE__, __LINE__));           \
    } while (0)

/* For functions with one exit path: runs expr only while s is KF_OK, and keeps its status in s. */
#define KF_STEP(s, expr)                                                                                               \
    do {                                                                                                               \
        if ((s) == KF_OK && ((s) = (expr)) != KF_OK) kf_error_pass((s), __FILE__, __LINE__);                           \
    } while (0)

/* Our own invariants. Aborts where asserts are on; elsewhere a module's edge returns KF_ERR_BUG with the text. */
#ifdef KF_ASSERTS
#include <assert.h>
#define KF_ASSERT(cond) assert(cond)
#else
#define KF_ASSERT(cond) ((void)sizeof(cond))
#endif
#define KF_REQUIRE(cond)                                                                                               \
    do {                                                                                                               \
        KF_ASSERT(cond);                                                                                               \
        if (!(cond)) return KF_FAIL(KF_ERR_BUG, "broken invariant: %s", #cond);                                        \
    } while (0)

#endif
