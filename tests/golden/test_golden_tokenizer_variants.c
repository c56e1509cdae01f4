/* Aim: what tokenizer.json can state is done as stated: normalisers, pre-tokenisers and their behaviours, prefixes,
 * trimmed offsets, ignore_merges, byte fallback, decoders. Method: small tokenizers, changed in one part at a time
 * (variants.json); for each, hashes of what Hugging Face's tokenizers gives for the corpus and 2,000 random texts, and
 * of what it decodes the corpus' ids to.
 */
#include "golden/tokenizer_data.h"

enum { N_RANDOM = 2000, TEXT_BYTES = 1 << 16 };

/* Lays the changed tokenizer out in a folder and opens it. */
static kf_tokenizer *open_variant(const json_t *variant, size_t number) {
    char path[256], dir[128];
    snprintf(path, sizeof path, DATA "small/%s.json", json_string_value(json_object_get(variant, "base")));
    json_t *state = json_load_file(path, 0, NULL), *value;
    assert_non_null(state);
    const char *key;
    json_object_foreach(json_object_get(variant, "change"), key, value) {
        if (strcmp(key, "model") == 0)
            json_object_update(json_object_get(state, key), value);
        else
            json_object_set(state, key, value);
    }
    snprintf(dir, sizeof dir, "%s/%zu", data.dir, number);
    snprintf(path, sizeof path, "mkdir %s", dir);
    shell(path);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    assert_int_equal(json_dump_file(state, path, 0), 0);
    json_decref(state);
    kf_tokenizer *t;
    if (kf_tokenizer_open(dir, &t) != KF_OK) fail_msg("variant %zu: %s", number, kf_error_text());
    return t;
}

static uint64_t hash_bytes(uint64_t h, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)bytes[i]) * 0x100000001B3u;
    return h;
}

static uint64_t number_of(const json_t *variant, const char *key) {
    return strtoull(json_string_value(json_object_get(variant, key)), NULL, 16);
}

/* True where both hashes are right. */
static bool check(const json_t *variant, size_t number) {
    static tokens got;
    static char bytes[TEXT_BYTES], decoded[TEXT_BYTES];
    kf_tokenizer *t = open_variant(variant, number);
    uint64_t h = 0xCBF29CE484222325u, h_decoded = h;
    for (size_t i = 0; i < data.n_texts; i++) {
        size_t n;
        h = hash_text(h, t, &data.texts[i], &got);
        assert_int_equal(kf_tokenizer_decode(t, got.ids, got.e.n, true, decoded, sizeof decoded, &n), KF_OK);
        if (i) h_decoded = hash_bytes(h_decoded, "", 1);
        h_decoded = hash_bytes(h_decoded, decoded, n);
    }
    text x = {.bytes = bytes};
    start_random();
    for (size_t i = 0; i < N_RANDOM; i++) {
        random_text(&x);
        h = hash_text(h, t, &x, &got);
    }
    kf_tokenizer_close(t);
    bool same = h == number_of(variant, "hash"), same_decoded = h_decoded == number_of(variant, "decoded");
    if (same && same_decoded) return true;
    char *change = json_dumps(json_object_get(variant, "change"), JSON_ENSURE_ASCII);
    print_error("variant %zu: %s differ: %s\n", number, same ? "decoded texts" : "tokens", change);
    free(change);
    return false;
}

static void test_variants(void **state) {
    (void)state;
    json_t *variants = json_load_file(DATA "variants.json", 0, NULL);
    size_t n = json_array_size(variants), n_wrong = 0;
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++)
        n_wrong += !check(json_array_get(variants, i), i);
    json_decref(variants);
    assert_int_equal(n_wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_variants)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
