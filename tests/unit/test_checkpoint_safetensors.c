/* Aim: a safetensors file that lies, is cut short or shrinks is refused with a text that says how. Method: files
 * written here, one lie each; and the right ones beside them, so that a refusal is not for another reason. */
#include "checkpoint_files.h"

#include <sys/mman.h>

#include "model/safetensors.h"

static char dir[64];

static int setup(void **state) {
    (void)state;
    folder_make(dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    folder_remove(dir);
    return 0;
}

/* Opens DIR and closes it again. */
static kf_status try_open(void) {
    kf_checkpoint *c = NULL;
    kf_status s = kf_checkpoint_open(dir, &c);
    assert_int_equal(s == KF_OK, c != NULL); /* *out is written only on success */
    kf_checkpoint_close(c);
    return s;
}

#define TENSOR(name, dtype, shape, begin, end)                                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static void test_reads_what_is_there(void **state) {
    (void)state;
    safetensors_write(dir, "model.safetensors",
                      "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR("b", "F32", "[2,3]", 0, 24) "," //
                      TENSOR("a", "BF16", "[4]", 24, 32) "," TENSOR("ids", "I64", "[1]", 32, 40) ","  //
                      TENSOR("none", "F32", "[0,7]", 40, 40) "," TENSOR("one", "F16", "[]", 40, 42) "}   ",
                      42);
    kf_checkpoint *c = NULL;
    assert_ok(kf_checkpoint_open(dir, &c));
    assert_int_equal(kf_checkpoint_n_tensors(c), 5);
    assert_string_equal(kf_checkpoint_tensor(c, 0)->name, "a");
    const kf_tensor *b = kf_checkpoint_find(c, "b"), *ids = kf_checkpoint_find(c, "ids");
    assert_true(b->n_dims == 2 && b->shape[0] == 2 && b->shape[1] == 3 && b->dtype == KF_F32);
    assert_int_equal(ids->dtype, KF_N_DTYPES); /* listed, but no weight */
    assert_string_equal(ids->dtype_name, "I64");
    assert_int_equal(kf_checkpoint_find(c, "one")->n_dims, 0);
    assert_null(kf_checkpoint_find(c, "c"));
    unsigned char bytes[24];
    assert_ok(kf_checkpoint_read(c, b, bytes));
    assert_int_equal(bytes[23], 23);
    assert_ok(kf_checkpoint_read(c, kf_checkpoint_find(c, "a"), bytes));
    assert_int_equal(bytes[0], 24);
    kf_checkpoint_close(c);
}

/* The hash is of what was read: not of the order, of the file's layout or of unread tensors. */
static void test_hash(void **state) {
    (void)state;
    unsigned char bytes[24];
    uint64_t hash[3];
    static const char *const headers[] = {
        "{" TENSOR("a", "F32", "[2]", 0, 8) "," TENSOR("b", "F32", "[2]", 8, 16) "}",
        "{" TENSOR("b", "F32", "[2]", 8, 16) "," TENSOR("a", "F32", "[2]", 0, 8) "," TENSOR("c", "U8", "[1]", 16,
                                                                                            17) "}",
        "{" TENSOR("a", "F32", "[2]", 8, 16) "," TENSOR("b", "F32", "[2]", 0, 8) "}", /* other bytes */
    };
    for (size_t i = 0; i < 3; i++) {
        kf_checkpoint *c = NULL;
        safetensors_write(dir, "model.safetensors", headers[i], i == 1 ? 17 : 16);
        assert_ok(kf_checkpoint_open(dir, &c));
        assert_ok(kf_checkpoint_read(c, kf_checkpoint_find(c, i == 1 ? "b" : "a"), bytes));
        assert_ok(kf_checkpoint_read(c, kf_checkpoint_find(c, i == 1 ? "a" : "b"), bytes));
        assert_ok(kf_checkpoint_read(c, kf_checkpoint_find(c, "a"), bytes)); /* twice counts once */
        hash[i] = kf_checkpoint_hash(c);
        kf_checkpoint_close(c);
    }
    assert_int_equal(hash[0], hash[1]);
    assert_int_not_equal(hash[0], hash[2]);
}

static void test_lies_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        kf_status status;
        const char *says;
    } lies[] = {
        {"{" TENSOR("w", "F32", "[2,3]", 0, 24) "}", 23, KF_ERR_CORRUPT, "tensor w: data_offsets [0, 24] lie outside"},
        {"{" TENSOR("w", "F32", "[2,3]", 0, 24) "}", 25, KF_ERR_CORRUPT, "end at byte 24 of the data, the file has 25"},
        {"{" TENSOR("w", "F32", "[2,4]", 0, 24) "}", 24, KF_ERR_CORRUPT, "F32 of shape [2, 4] needs 32 bytes"},
        {"{" TENSOR("w", "BF16", "[2,3]", 0, 24) "}", 24, KF_ERR_CORRUPT,
         "needs 12 bytes, its data_offsets give it 24"},
        {"{" TENSOR("w", "F32", "[2]", 8, 0) "}", 8, KF_ERR_CORRUPT, "data_offsets [8, 0] lie outside"},
        {"{" TENSOR("w", "F32", "[2]", -8, 0) "}", 8, KF_ERR_CORRUPT, "data_offsets [-8, 0] lie outside"},
        {"{" TENSOR("w", "F32", "[2]", 9223372036854775800, 9223372036854775807) "}", 8, KF_ERR_CORRUPT, "lie outside"},
        {"{" TENSOR("w", "F32", "[4294967296,4294967296]", 0, 8) "}", 8, KF_ERR_CORRUPT,
         "product of its shape overflows"},
        {"{" TENSOR("w", "F32", "[4611686018427387904]", 0, 8) "}", 8, KF_ERR_CORRUPT, "data_offsets give it 8"},
        {"{" TENSOR("w", "F32", "[-2]", 0, 8) "}", 8, KF_ERR_CORRUPT, "size 0 of its shape"},
        {"{" TENSOR("w", "F32", "[2.0]", 0, 8) "}", 8, KF_ERR_CORRUPT, "size 0 of its shape"},
        {"{" TENSOR("w", "F32", "[1,1,1,1,1,1,1,1,2]", 0, 8) "}", 8, KF_ERR_CORRUPT, "at most 8 sizes"},
        {"{" TENSOR("w", "F32", "2", 0, 8) "}", 8, KF_ERR_CORRUPT, "shape must be a list"},
        {"{" TENSOR("w", "Q4_K", "[2]", 0, 8) "}", 8, KF_ERR_UNSUPPORTED, "tensor w: dtype Q4_K"},
        {"{\"w\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, KF_ERR_CORRUPT, "tensor w: no dtype"},
        {"{\"w\":[1]}", 8, KF_ERR_CORRUPT, "tensor w: no dtype"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, KF_ERR_CORRUPT, "data_offsets must be [begin, end]"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, KF_ERR_CORRUPT, "data_offsets must be"},
        {"{" TENSOR("v", "F32", "[2]", 0, 8) "," TENSOR("w", "F32", "[2]", 4, 12) "}", 12, KF_ERR_CORRUPT,
         "tensor w begins at byte 4 of the data, inside the one before"},
        {"{" TENSOR("v", "F32", "[2]", 0, 8) "," TENSOR("w", "F32", "[1]", 12, 16) "}", 16, KF_ERR_CORRUPT,
         "tensor w begins at byte 12 of the data, past the one before"},
        {"{" TENSOR("w", "F32", "[2]", 0, 8) "," TENSOR("w", "F32", "[2]", 8, 16) "}", 16, KF_ERR_CORRUPT,
         "no valid JSON"},
        {"{" TENSOR("w", "F32", "[2]", 0, 8), 8, KF_ERR_CORRUPT, "no valid JSON"},
        {"[]", 0, KF_ERR_CORRUPT, "must be an object"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        safetensors_write(dir, "model.safetensors", lies[i].header, lies[i].data_bytes);
        assert_refused(try_open(), lies[i].status, lies[i].says);
        assert_non_null(strstr(kf_error_text(), "/model.safetensors: "));
    }
}

static void test_header_lengths(void **state) {
    (void)state;
    unsigned char file[64] = {0};
    file_write(dir, "model.safetensors", file, 3);
    assert_refused(try_open(), KF_ERR_CORRUPT, "3 bytes long, too short");
    file[0] = 57; /* 64 bytes have 56 after the length */
    file_write(dir, "model.safetensors", file, 64);
    assert_refused(try_open(), KF_ERR_CORRUPT, "claims 57 bytes; the file has 56");
    memset(file, 255, 8);
    file_write(dir, "model.safetensors", file, 64);
    assert_refused(try_open(), KF_ERR_CORRUPT, "claims 18446744073709551615 bytes");
    file_write(dir, "model.safetensors", "", 0);
    assert_refused(try_open(), KF_ERR_CORRUPT, "0 bytes long");
}

/* JSON deeper than a stack, and a name with a NUL in it. */
static void test_hostile_json(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    char *deep = malloc(DEPTH + 16);
    assert_non_null(deep);
    memcpy(deep, "{\"w\":", 5);
    memset(deep + 5, '[', DEPTH);
    deep[5 + DEPTH] = 0;
    safetensors_write(dir, "model.safetensors", deep, 0);
    free(deep);
    assert_refused(try_open(), KF_ERR_CORRUPT, "no valid JSON");
    safetensors_write(dir, "model.safetensors", "{" TENSOR("w\\u0000x", "F32", "[2]", 0, 8) "}", 8);
    assert_refused(try_open(), KF_ERR_CORRUPT, "no valid JSON");
}

/* A file that becomes shorter after its header was checked: an error, where a map would be a SIGBUS. */
static void test_file_shrinks(void **state) {
    (void)state;
    char path[128];
    unsigned char bytes[8192];
    kf_checkpoint *c = NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    safetensors_write(dir, "model.safetensors", "{" TENSOR("w", "F32", "[2048]", 0, 8192) "}", 8192);
    assert_ok(kf_checkpoint_open(dir, &c));
    assert_int_equal(truncate(path, 4096), 0);
    assert_refused(kf_checkpoint_read(c, kf_checkpoint_find(c, "w"), bytes), KF_ERR_CORRUPT, "w: wanted 8192 bytes");
    assert_non_null(strstr(kf_error_text(), "become shorter"));
    kf_checkpoint_close(c);
}

static void test_no_file(void **state) {
    (void)state;
    char empty[64];
    kf_checkpoint *c = NULL;
    folder_make(empty);
    assert_refused(kf_checkpoint_open(empty, &c), KF_ERR_NOT_FOUND, "neither model.safetensors nor");
    folder_remove(empty);
    assert_refused(kf_checkpoint_open(empty, &c), KF_ERR_NOT_FOUND, empty);
    assert_refused(kf_checkpoint_open_file("/dev/zero", &c), KF_ERR_IO, "not a regular file");
}

static void index_write(const char *json) {
    file_write(dir, "model.safetensors.index.json", json, strlen(json));
}

static void test_shards(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    unlink(path);
    safetensors_write(dir, "one.safetensors", "{" TENSOR("a", "F32", "[2]", 0, 8) "}", 8);
    safetensors_write(dir, "two.safetensors",
                      "{" TENSOR("b", "F32", "[2]", 0, 8) "," TENSOR("c", "F32", "[1]", 8, 12) "}", 12);
    index_write("{\"metadata\":{},\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\",\"c\":\"two."
                "safetensors\"}}");
    kf_checkpoint *c = NULL;
    unsigned char bytes[8];
    assert_ok(kf_checkpoint_open(dir, &c));
    assert_int_equal(kf_checkpoint_n_tensors(c), 3);
    assert_non_null(strstr(kf_checkpoint_path(c, kf_checkpoint_find(c, "c")), "/two.safetensors"));
    assert_ok(kf_checkpoint_read(c, kf_checkpoint_find(c, "c"), bytes));
    assert_int_equal(bytes[0], 8);
    kf_checkpoint_close(c);

    index_write("{\"weight_map\":{\"a\":\"two.safetensors\"}}");
    assert_refused(try_open(), KF_ERR_NOT_FOUND, "tensor a is not in");
    index_write("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"three.safetensors\"}}");
    assert_refused(try_open(), KF_ERR_NOT_FOUND, "three.safetensors");
    index_write("{\"weight_map\":{\"a\":\"../one.safetensors\"}}");
    assert_refused(try_open(), KF_ERR_CORRUPT, "no plain file name");
    index_write("{\"weight_map\":{\"a\":7}}");
    assert_refused(try_open(), KF_ERR_CORRUPT, "a has no file name");
    index_write("{\"weight_map\":{}}");
    assert_refused(try_open(), KF_ERR_CORRUPT, "no weight_map");
    safetensors_write(dir, "two.safetensors", "{" TENSOR("a", "F32", "[2]", 0, 8) "}", 8);
    index_write("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
    assert_refused(try_open(), KF_ERR_CORRUPT, "tensor a is in");
}

/* A good file with bytes changed, cut and added at random: it opens or is refused, and every tensor that is listed can
 * be read. Sanitizers do the rest. */
static void test_changed_at_random(void **state) {
    (void)state;
    size_t n = 0, n_opened = 0, n_refused = 0;
    unsigned char *good = file_read(KF_SOURCE_DIR "/tests/golden/data/bert_trunk/heads/intent.safetensors", &n);
    unsigned char *bad = malloc(n + 64);
    char path[128];
    assert_non_null(bad);
    int fd = memfd_create("changed", 0); /* a file in memory */
    assert_true(fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    uint32_t r = 1; /* the seed: xorshift32 */
    for (size_t round = 0; round < 3000; round++) {
        memcpy(bad, good, n);
        size_t bytes = n;
        for (size_t k = 0; k < 1 + round % 3; k++) {
            r ^= r << 13, r ^= r >> 17, r ^= r << 5;
            bad[r % (round % 2 ? 256 : n)] = (unsigned char)(r >> 24);
        }
        if (round % 7 == 0) bytes = r % n;
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, bad, bytes, 0), bytes);
        kf_checkpoint *c = NULL;
        if (kf_checkpoint_open_file(path, &c) != KF_OK) {
            n_refused++;
            continue;
        }
        n_opened++;
        for (size_t i = 0; i < kf_checkpoint_n_tensors(c); i++) {
            const kf_tensor *t = kf_checkpoint_tensor(c, i);
            void *data = malloc(t->bytes + 1);
            assert_non_null(data);
            assert_ok(kf_checkpoint_read(c, t, data));
            free(data);
        }
        kf_checkpoint_close(c);
    }
    printf("%zu opened, %zu refused\n", n_opened, n_refused);
    assert_true(n_opened > 100 && n_refused > 100); /* both kinds were tried */
    close(fd);
    free(good);
    free(bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_is_there),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_lies_are_refused),
        cmocka_unit_test(test_header_lengths),
        cmocka_unit_test(test_hostile_json),
        cmocka_unit_test(test_file_shrinks),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_changed_at_random),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
