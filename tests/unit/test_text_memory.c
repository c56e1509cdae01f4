/* Aim: a tokenizer whose loading runs out of memory anywhere says so and leaves nothing behind; encoding and decoding a
 * message allocates nothing. Method: this program's own malloc, calloc, realloc and free count, and fail the n-th
 * request, n = 1, 2, 3 … until loading passes. Sanitizers bring their own allocator: with them there is nothing to do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "text/tokenizer_impl.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED
#endif
#endif

static long n_requests, fails_at = -1, n_live;

#ifndef SANITIZED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static bool fails(void) {
    return ++n_requests == fails_at;
}

void *malloc(size_t n) {
    void *p = fails() ? NULL : __libc_malloc(n);
    n_live += p != NULL;
    return p;
}

void *calloc(size_t n, size_t size) {
    void *p = fails() ? NULL : __libc_calloc(n, size);
    n_live += p != NULL;
    return p;
}

void *realloc(void *old, size_t n) {
    void *p = fails() ? NULL : __libc_realloc(old, n);
    n_live += !old && p;
    return p;
}

void free(void *p) {
    n_live -= p != NULL;
    __libc_free(p);
}
#endif

static json_t *load_file(const char *name) {
    char path[256] = KF_SOURCE_DIR "/tests/golden/tokenizers/small/";
    strncat(path, name, sizeof path - strlen(path) - 1);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    return root;
}

static kf_status open_root(const json_t *root, kf_tokenizer **out) {
    kf_tokenizer *t;
    KF_TRY(kf_tokenizer_new(&t));
    kf_status s = kf_tokenizer_load_json(t, root);
    if (s == KF_OK)
        *out = t;
    else
        kf_tokenizer_close(t);
    return s;
}

/* How many loads failed before one passed. */
static long fail_each(const json_t *root) {
    for (long n = 1;; n++) {
        kf_tokenizer *t = NULL;
        long before = n_live;
        n_requests = 0;
        fails_at = n;
        kf_status s = open_root(root, &t);
        bool reached = n_requests >= n;
        fails_at = -1;
        if (s == KF_OK) kf_tokenizer_close(t);
        assert_int_equal(n_live, before);
        if (!reached) return n - 1;
        if (s != KF_OK)
            assert_int_equal(s, KF_ERR_NO_MEMORY); /* a pattern that is not compiled for the machine still runs */
    }
}

static void test_loading(void **state) {
    (void)state;
#ifdef SANITIZED
    skip();
#endif
    const char *const files[] = {"byte_level.json", "sentencepiece.json"};
    for (size_t i = 0; i < 2; i++) {
        json_t *root = load_file(files[i]);
        assert_in_range(fail_each(root), 15, 1000);
        json_decref(root);
    }
}

static void test_messages_allocate_nothing(void **state) {
    (void)state;
#ifdef SANITIZED
    skip();
#endif
    const char *const files[] = {"byte_level.json", "sentencepiece.json"};
    const char *const texts[] = {"我想要一件红色的羽绒服😂 e\u0301 한 I'd like    2\n\n\n", "", "<|end|>"};
    for (size_t i = 0; i < 2; i++) {
        json_t *root = load_file(files[i]);
        kf_tokenizer *t;
        assert_int_equal(open_root(root, &t), KF_OK);
        int32_t ids[512];
        char out[1024];
        size_t n;
        n_requests = 0;
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            kf_encoding e = {.cap = 512, .ids = ids};
            assert_int_equal(kf_tokenizer_encode(t, texts[k], strlen(texts[k]), KF_SPECIAL_ADD, &e), KF_OK);
            assert_int_equal(kf_tokenizer_decode(t, ids, e.n, true, out, sizeof out, &n), KF_OK);
        }
        assert_int_equal(n_requests, 0);
        kf_tokenizer_close(t);
        json_decref(root);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loading),
        cmocka_unit_test(test_messages_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
