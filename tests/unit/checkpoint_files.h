/* Small files in a temporary folder, for the tests of what checkpoints may hold. */
#ifndef KF_TESTS_CHECKPOINT_FILES_H
#define KF_TESTS_CHECKPOINT_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"

/* The message of the failure, not only that there was one. */
#define assert_ok(expr)                                                                                                \
    do {                                                                                                               \
        kf_status assert_ok_s_ = (expr);                                                                               \
        if (assert_ok_s_ != KF_OK) fail_msg("%s: %s: %s", #expr, kf_status_name(assert_ok_s_), kf_error_text());       \
    } while (0)

/* The call fails with this status, and its text holds what people need to know. */
static inline void assert_refused(kf_status got, kf_status want, const char *fragment) {
    if (got != want) fail_msg("%s (%s), wanted %s", kf_status_name(got), kf_error_text(), kf_status_name(want));
    if (!strstr(kf_error_text(), fragment)) fail_msg("\"%s\" does not say \"%s\"", kf_error_text(), fragment);
}

/* A fresh folder; its name into dir. */
static inline void folder_make(char dir[64]) {
    strcpy(dir, "/tmp/kefu-checkpoint-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static inline void folder_remove(const char *dir) {
    assert_int_equal(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static inline void file_write(const char *dir, const char *name, const void *bytes, size_t n) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A safetensors file: the header as given, then data_bytes bytes 0, 1, 2 … */
static inline void safetensors_write(const char *dir, const char *name, const char *header, size_t data_bytes) {
    size_t n = strlen(header);
    unsigned char *file = malloc(8 + n + data_bytes);
    assert_non_null(file);
    for (size_t i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(file + 8, header, n);
    for (size_t i = 0; i < data_bytes; i++)
        file[8 + n + i] = (unsigned char)i;
    file_write(dir, name, file, 8 + n + data_bytes);
    free(file);
}

/* The whole file, the caller's to free. */
static inline unsigned char *file_read(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

#endif
