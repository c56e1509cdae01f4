/* The ring and the writer of trace_file.h. The ring is Vyukov's bounded queue (1024cores.net, 2010) with many producers
 * and one consumer: a cell's number says whose turn it is. */
#include "observe/trace_file.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/trace.h"

enum { CELLS = 1 << 14, NAP_NS = 10000000 };

typedef struct cell {
    atomic_size_t turn; /* its index: empty; index + 1: full; one round later again */
    kf_trace_record record;
} cell;

struct kf_trace_file {
    kf_trace_sink sink; /* first: the sink is the file */
    FILE *f;
    cell *cells; /* [CELLS] */
    atomic_size_t tail;
    size_t head; /* the writer's */
    atomic_uint_fast64_t n_dropped;
    uint64_t n_written;
    int64_t last_ns, bytes;
    bool failed;
    pthread_t thread;
    atomic_bool stopping;
};

/* ---- the ring ---- */

static void take(kf_trace_sink *sink, const kf_trace_record *r) {
    kf_trace_file *t = (kf_trace_file *)sink;
    size_t at = atomic_load_explicit(&t->tail, memory_order_relaxed);
    for (;;) {
        cell *c = &t->cells[at % CELLS];
        size_t turn = atomic_load_explicit(&c->turn, memory_order_acquire);
        if (turn == at) {
            if (!atomic_compare_exchange_weak_explicit(&t->tail, &at, at + 1, memory_order_relaxed,
                                                       memory_order_relaxed))
                continue;
            c->record = *r;
            atomic_store_explicit(&c->turn, at + 1, memory_order_release);
            return;
        }
        if (turn < at) { /* still full */
            atomic_fetch_add_explicit(&t->n_dropped, 1, memory_order_relaxed);
            return;
        }
        at = atomic_load_explicit(&t->tail, memory_order_relaxed);
    }
}

static bool next_record(kf_trace_file *t, kf_trace_record *out) {
    cell *c = &t->cells[t->head % CELLS];
    if (atomic_load_explicit(&c->turn, memory_order_acquire) != t->head + 1) return false;
    *out = c->record;
    atomic_store_explicit(&c->turn, t->head + CELLS, memory_order_release);
    t->head++;
    return true;
}

/* ---- the file ---- */

static void put(kf_trace_file *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(kf_trace_file *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vfprintf(t->f, format, args);
    va_end(args);
    if (n < 0) t->failed = true;
    t->bytes += n > 0 ? n : 0;
}

/* Nanoseconds as microseconds. */
static void put_us(kf_trace_file *t, const char *key, int64_t ns) {
    put(t, ",\"%s\":%" PRId64 ".%03" PRId64, key, ns / 1000, ns % 1000);
}

static void put_text(kf_trace_file *t, const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\' || c < 0x20)
            put(t, "\\u%04x", c);
        else
            put(t, "%c", c);
    }
}

static void put_async(kf_trace_file *t, const kf_trace_record *r, char phase, const char *name, int64_t at_ns) {
    put(t, ",\n{\"ph\":\"%c\",\"cat\":\"request\",\"id\":\"0x%" PRIx64 "\",\"name\":\"%s\",\"pid\":1,\"tid\":%d", phase,
        r->id, name, KF_TRACE_REQUESTS);
    put_us(t, "ts", at_ns);
}

/* All of a request at once: so every begin has its end, and one that is dropped leaves nothing behind. */
static void write_request(kf_trace_file *t, const kf_trace_record *r) {
    int64_t at_ns = r->begin_ns;
    put_async(t, r, 'b', r->name, at_ns);
    put(t, ",\"args\":{\"code\":%" PRId64 ",\"request\":\"", r->code);
    put_text(t, r->label);
    put(t, "\"}}");
    for (size_t i = 0; i < KF_TRACE_ITEMS && r->items[i].name; i++) {
        int64_t end_ns = r->items[i].value > at_ns ? r->items[i].value : at_ns;
        put_async(t, r, 'b', r->items[i].name, at_ns);
        put(t, "}");
        put_async(t, r, 'e', r->items[i].name, end_ns);
        put(t, "}");
        at_ns = end_ns;
    }
    put_async(t, r, 'e', r->name, r->end_ns > at_ns ? r->end_ns : at_ns);
    put(t, "}");
}

static void write_slice(kf_trace_file *t, const kf_trace_record *r) {
    put(t, ",\n{\"ph\":\"X\",\"name\":\"%s\",\"pid\":1,\"tid\":%d", r->name, r->track);
    put_us(t, "ts", r->begin_ns);
    put_us(t, "dur", r->end_ns > r->begin_ns ? r->end_ns - r->begin_ns : 0);
    put(t, ",\"args\":{");
    for (size_t i = 0; i < KF_TRACE_ITEMS && r->items[i].name; i++)
        put(t, "%s\"%s\":%" PRId64, i ? "," : "", r->items[i].name, r->items[i].value);
    put(t, "}}");
}

static void write_head(kf_trace_file *t) {
    static const char *const names[KF_TRACE_TRACKS] = {"requests", "device: runs", "device: parts of passes"};
    put(t, "[{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":1,\"args\":{\"name\":\"kefu\"}}");
    for (int i = 0; i < KF_TRACE_TRACKS; i++)
        put(t, ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":\"%s\"}}", i,
            names[i]);
}

static void write_end(kf_trace_file *t) {
    put(t, ",\n{\"ph\":\"i\",\"s\":\"g\",\"name\":\"trace ended\",\"pid\":1,\"tid\":%d", KF_TRACE_RUNS);
    put_us(t, "ts", t->last_ns);
    put(t, ",\"args\":{\"records\":%" PRIu64 ",\"dropped\":%" PRIu64 "}}]\n", t->n_written,
        (uint64_t)atomic_load(&t->n_dropped));
}

static void write_records(kf_trace_file *t) {
    kf_trace_record r;
    while (next_record(t, &r)) {
        if (t->failed || t->bytes > KF_TRACE_FILE_BYTES) {
            atomic_fetch_add_explicit(&t->n_dropped, 1, memory_order_relaxed);
            continue;
        }
        if (r.track == KF_TRACE_REQUESTS)
            write_request(t, &r);
        else
            write_slice(t, &r);
        if (r.end_ns > t->last_ns) t->last_ns = r.end_ns;
        t->n_written++;
    }
    if (fflush(t->f) == EOF) t->failed = true;
}

static void *writer(void *file) {
    kf_trace_file *t = file;
    while (!atomic_load_explicit(&t->stopping, memory_order_acquire)) {
        write_records(t);
        nanosleep(&(struct timespec){0, NAP_NS}, NULL);
    }
    write_records(t);
    return NULL;
}

/* ---- life ---- */

static kf_status start(kf_trace_file *t, const char *path) {
    t->cells = calloc(CELLS, sizeof *t->cells);
    if (!t->cells) return KF_FAIL(KF_ERR_NO_MEMORY, "--trace: no memory for %d records", CELLS);
    for (size_t i = 0; i < CELLS; i++)
        atomic_init(&t->cells[i].turn, i);
    t->f = fopen(path, "we");
    if (!t->f) return KF_FAIL(KF_ERR_IO, "--trace %s: cannot be written: %s", path, strerror(errno));
    write_head(t);
    int err = pthread_create(&t->thread, NULL, writer, t);
    return err ? KF_FAIL(KF_ERR_IO, "--trace: thread: %s", strerror(err)) : KF_OK;
}

static void release(kf_trace_file *t) {
    if (t->f && fclose(t->f) == EOF) t->failed = true;
    free(t->cells);
}

kf_status kf_trace_file_open(const char *path, kf_trace_file **out) {
    kf_trace_file *t = calloc(1, sizeof *t);
    if (!t) return KF_FAIL(KF_ERR_NO_MEMORY, "--trace: no memory");
    t->sink.take = take;
    kf_status s = start(t, path);
    if (s != KF_OK) {
        release(t);
        free(t);
        return s;
    }
    kf_trace_to(&t->sink);
    *out = t;
    return KF_OK;
}

void kf_trace_file_close(kf_trace_file *t) {
    if (!t) return;
    kf_trace_to(NULL);
    atomic_store_explicit(&t->stopping, true, memory_order_release);
    pthread_join(t->thread, NULL);
    write_end(t);
    release(t);
    kf_log(t->failed ? KF_ERROR : KF_INFO, t->failed ? "trace_not_written" : "trace_written",
           KF_INT("records", t->n_written), KF_INT("dropped", atomic_load(&t->n_dropped)), KF_INT("bytes", t->bytes),
           KF_END);
    free(t);
}
