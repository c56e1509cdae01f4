/* The dump hook, and the folder of safetensors files that KEFU_DUMP asks for. A development aid: it allocates as it
 * goes, and a dump that fails is logged and leaves the pass alone. */
#include "model/dump.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "device/bf16.h"

static void log_failure(const char *tensor, const char *why) {
    kf_log(KF_ERROR, "dump_failed", KF_STR("tensor", tensor), KF_STR("why", why), KF_END);
}

/* ---- showing a tensor ---- */

/* Waits for the stream and returns the view's rows as f32 without gaps, the caller's to free. */
static kf_status fetch(kf_stream *s, kf_dump_view v, float **out) {
    kf_device *d = s->device;
    void *raw = NULL;
    kf_event *e = NULL;
    size_t n = v.n_rows * v.width, raw_bytes = ((v.n_rows - 1) * v.stride + v.width) * kf_dtype_bytes(v.dtype);
    float *f = malloc(n * sizeof *f);
    kf_status st = f ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "dump: no memory for %zu floats", n);
    KF_STEP(st, kf_pinned_alloc(d, raw_bytes, &raw));
    KF_STEP(st, kf_event_new(d, &e));
    if (st == KF_OK) kf_copy_out(s, raw, v.x, raw_bytes);
    KF_STEP(st, kf_event_record(s, e));
    KF_STEP(st, kf_event_wait(d, e));
    for (size_t i = 0; st == KF_OK && i < n; i++) {
        size_t at = i / v.width * v.stride + i % v.width;
        f[i] = v.dtype == KF_F32 ? ((const float *)raw)[at] : kf_bf16_to_f32(((const uint16_t *)raw)[at]);
    }
    kf_event_free(d, e);
    if (raw) kf_pinned_free(d, raw);
    if (st == KF_OK)
        *out = f;
    else
        free(f);
    return st;
}

void kf_dump_rows(const kf_dump *d, kf_stream *s, kf_dump_view v, const char *name, ...) {
    if (!d->tensor || v.n_rows == 0) return;
    char full[128];
    float *f = NULL;
    va_list ap;
    va_start(ap, name);
    vsnprintf(full, sizeof full, name, ap);
    va_end(ap);
    if (fetch(s, v, &f) != KF_OK) {
        log_failure(full, kf_error_text());
        return;
    }
    d->tensor(d->user, full, f, v.n_rows, v.width);
    free(f);
}

void kf_dump_end(const kf_dump *d) {
    if (d->pass_end) d->pass_end(d->user);
}

/* ---- a folder ---- */

typedef struct folder {
    char *dir, *model;
    size_t n_passes;
    json_t *header;
    float *data; /* all tensors of this pass, end to end */
    size_t n, cap;
} folder;

static void folder_tensor(void *user, const char *name, const float *x, size_t n_rows, size_t width) {
    folder *f = user;
    size_t n = n_rows * width;
    if (f->n + n > f->cap) {
        size_t cap = 2 * (f->n + n);
        float *grown = realloc(f->data, cap * sizeof *grown);
        if (!grown) {
            log_failure(name, "no memory for its values");
            return;
        }
        f->data = grown;
        f->cap = cap;
    }
    if (n) memcpy(f->data + f->n, x, n * sizeof *x);
    const size_t begin = f->n * sizeof *x, end = begin + n * sizeof *x;
    json_t *line = json_pack("{s:s, s:[I, I], s:[I, I]}", "dtype", "F32", "shape", (json_int_t)n_rows,
                             (json_int_t)width, "data_offsets", (json_int_t)begin, (json_int_t)end);
    if (json_object_set_new(f->header, name, line) == 0)
        f->n += n;
    else
        log_failure(name, "no memory for its line in the header");
}

static kf_status write_file(const char *path, const char *header, const float *data, size_t n) {
    FILE *out = fopen(path, "wbe");
    if (!out) return KF_FAIL(KF_ERR_IO, "%s: %s", path, strerror(errno));
    unsigned char le[8];
    for (size_t i = 0; i < sizeof le; i++)
        le[i] = (unsigned char)((uint64_t)strlen(header) >> 8 * i);
    size_t written = fwrite(le, 1, sizeof le, out) + fwrite(header, 1, strlen(header), out);
    if (n) written += fwrite(data, sizeof *data, n, out);
    if (fclose(out) != 0 || written != sizeof le + strlen(header) + n)
        return KF_FAIL(KF_ERR_IO, "%s: %s", path, strerror(errno));
    return KF_OK;
}

static void folder_end(void *user) {
    folder *f = user;
    char *path = NULL, *header = json_dumps(f->header, JSON_COMPACT);
    if (asprintf(&path, "%s/%s.%zu.safetensors", f->dir, f->model, f->n_passes) < 0) path = NULL;
    kf_status s = path && header ? write_file(path, header, f->data, f->n)
                                 : KF_FAIL(KF_ERR_NO_MEMORY, "dump: no memory for a file's header");
    if (s != KF_OK) kf_log(KF_ERROR, "dump_failed", KF_STR("why", kf_error_text()), KF_END);
    f->n_passes++;
    f->n = 0;
    json_object_clear(f->header);
    free(header);
    free(path);
}

static void folder_free(folder *f) {
    json_decref(f->header);
    free(f->dir);
    free(f->model);
    free(f->data);
    free(f);
}

kf_status kf_dump_from_env(const char *model, kf_dump *out) {
    const char *dir = getenv("KEFU_DUMP");
    if (!dir || !*dir) {
        *out = (kf_dump){0};
        return KF_OK;
    }
    struct stat about;
    if (stat(dir, &about) != 0) return KF_FAIL(KF_ERR_NOT_FOUND, "KEFU_DUMP: %s: %s", dir, strerror(errno));
    if (!S_ISDIR(about.st_mode) || access(dir, W_OK | X_OK) != 0)
        return KF_FAIL(KF_ERR_IO, "KEFU_DUMP: %s: a folder that may be written to is wanted", dir);
    folder *f = calloc(1, sizeof *f);
    if (!f) return KF_FAIL(KF_ERR_NO_MEMORY, "dump: no memory");
    f->dir = strdup(dir);
    f->model = strdup(model);
    f->header = json_object();
    if (!f->dir || !f->model || !f->header) {
        folder_free(f);
        return KF_FAIL(KF_ERR_NO_MEMORY, "dump: no memory");
    }
    *out = (kf_dump){folder_tensor, folder_end, f};
    return KF_OK;
}

void kf_dump_free(kf_dump *d) {
    if (d->tensor == folder_tensor) folder_free(d->user);
    *d = (kf_dump){0};
}
