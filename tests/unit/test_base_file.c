/* Aim: a file is read whole or refused with a text that names it; "not there" is said of nothing that is there.
 * Method: small files in a folder of the test's own. Who may read everything (root) cannot be refused by chmod, so a
 * folder, a fifo and a file used as a folder stand for what cannot be read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"

static char dir[64], path[96];

static void put(const char *text, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
}

static void put_text(const char *text) {
    put(text, strlen(text));
}

static void refused(kf_status got, kf_status want, const char *says) {
    if (got != want) fail_msg("%s (%s), wanted %s", kf_status_name(got), kf_error_text(), kf_status_name(want));
    if (!strstr(kf_error_text(), says)) fail_msg("\"%s\" does not say \"%s\"", kf_error_text(), says);
    if (strncmp(kf_error_text(), path, strlen(path))) fail_msg("\"%s\" does not name %s", kf_error_text(), path);
}

static kf_status read_json(json_t **out) {
    return kf_json_read(path, 100, JSON_REJECT_DUPLICATES, out, NULL);
}

static void whole_or_refused(void **state) {
    (void)state;
    char *bytes;
    size_t n;
    put("a\0b", 3);
    assert_int_equal(kf_file_read(path, 3, &bytes, &n), KF_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(bytes, "a\0b", 4); /* a NUL behind it */
    free(bytes);
    refused(kf_file_read(path, 2, &bytes, &n), KF_ERR_TOO_LARGE, "3 bytes, more than the 2");
    put_text("");
    assert_int_equal(kf_file_read(path, 0, &bytes, &n), KF_OK);
    assert_int_equal(n, 0);
    free(bytes);
}

static void shrinks(void **state) {
    (void)state;
    int fd;
    uint64_t n;
    char got[8];
    put_text("12345678");
    assert_int_equal(kf_file_open(path, &fd, &n), KF_OK);
    assert_int_equal(n, 8);
    assert_int_equal(truncate(path, 5), 0);
    assert_int_equal(kf_file_pread(fd, path, "x", got, 5, 0), KF_OK);
    refused(kf_file_pread(fd, path, "x", got, 8, 0), KF_ERR_CORRUPT, "ends after 5 of them");
    close(fd);
}

static void only_what_is_not_there_is_not_there(void **state) {
    (void)state;
    json_t *root = (json_t *)&path; /* to be written */
    bool there;
    unlink(path);
    refused(read_json(&root), KF_ERR_NOT_FOUND, "No such file");
    assert_int_equal(kf_json_read_optional(path, 100, 0, &root), KF_OK);
    assert_null(root);
    assert_int_equal(kf_path_exists(path, &there), KF_OK);
    assert_false(there);

    assert_int_equal(mkdir(path, 0700), 0);
    refused(kf_json_read_optional(path, 100, 0, &root), KF_ERR_IO, "not a regular file");
    assert_int_equal(kf_path_exists(path, &there), KF_OK);
    assert_true(there);
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(kf_json_read_optional(path, 100, 0, &root), KF_ERR_IO, "not a regular file");
    unlink(path);

    put_text("{}");
    size_t n = strlen(path);
    strcpy(path + n, "/x"); /* a file used as a folder: no answer to whether x is there */
    refused(kf_json_read_optional(path, 100, 0, &root), KF_ERR_IO, "Not a directory");
    path[n] = 0;
}

static void json(void **state) {
    (void)state;
    json_t *root;
    uint64_t hash;
    put_text("{\"a\": 1}");
    assert_int_equal(kf_json_read(path, 100, JSON_REJECT_DUPLICATES, &root, &hash), KF_OK);
    assert_int_equal(json_integer_value(json_object_get(root, "a")), 1);
    assert_true(hash == kf_fnv64_words(KF_FNV64_START, "{\"a\": 1}", 8));
    json_decref(root);
    put_text("");
    refused(read_json(&root), KF_ERR_CORRUPT, "no valid JSON");
    put_text("{\"a\": 1,\n \"a\": 2}");
    refused(read_json(&root), KF_ERR_CORRUPT, "line 2");
    put_text("[]");
    refused(read_json(&root), KF_ERR_CORRUPT, "must be an object");
}

static void keys(void **state) {
    (void)state;
    static const char *const known[] = {"a", "b", NULL};
    json_t *object = json_pack("{s:i,s:i}", "b", 1, "a", 2), *list = json_array();
    assert_int_equal(kf_json_only(object, path, "the top", known), KF_OK);
    json_object_set_new(object, "c", json_true());
    refused(kf_json_only(object, path, "the top", known), KF_ERR_CORRUPT,
            "the top has \"c\", which nothing reads; there are a, b");
    refused(kf_json_only(list, path, "the top", known), KF_ERR_CORRUPT, "the top must be an object");
    refused(kf_json_only(NULL, path, "the top", known), KF_ERR_CORRUPT, "the top must be an object");
    json_decref(object);
    json_decref(list);
}

/* FNV's own test values (draft-eastlake-fnv, appendix C). */
static void hashes(void **state) {
    (void)state;
    assert_int_equal(kf_fnv32(KF_FNV32_START, "", 0), 0x811c9dc5);
    assert_int_equal(kf_fnv32(KF_FNV32_START, "a", 1), 0xe40c292c);
    assert_int_equal(kf_fnv32(KF_FNV32_START, "foobar", 6), 0xbf9cf968);
    assert_int_equal(kf_fnv32(kf_fnv32(KF_FNV32_START, "foo", 3), "bar", 3), 0xbf9cf968);
    assert_true(kf_fnv64_words(KF_FNV64_START, "ab", 2) != kf_fnv64_words(KF_FNV64_START, "ab\0", 3));
}

static int setup(void **state) {
    (void)state;
    strcpy(dir, "/tmp/kefu-file-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/f", dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_or_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(shrinks, setup, teardown),
        cmocka_unit_test_setup_teardown(only_what_is_not_there_is_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(json, setup, teardown),
        cmocka_unit_test_setup_teardown(keys, setup, teardown),
        cmocka_unit_test(hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
