/* Aim: blocks of the cache are handed out once, come back whole, and run out with an answer. Method: reserve and
 * release in every slot at random from a seed, holding each table against a list of who owns what. */
#include "checkpoint_files.h"

#include "model/kv_cache.h"

enum { N_BLOCKS = 37, N_SLOTS = 5, MAX_SEQLEN = 200 };

static kf_device *d;

static int setup(void **state) {
    (void)state;
    return kf_null_open(&(kf_device_opts){.dtype = KF_F32}, &d) == KF_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    kf_device_close(d);
    return 0;
}

static const kf_kv_shape shape = {
    .n_layers = 3, .n_kv_heads = 2, .head_dim = 12, .n_blocks = N_BLOCKS, .n_slots = N_SLOTS, .max_seqlen = MAX_SEQLEN};

/* Every block is free or in one table, and a table has as many as its slot's tokens need. */
static void check_owners(const kf_kv_cache *c, const size_t n_tokens[N_SLOTS]) {
    size_t owners[N_BLOCKS] = {0}, n_used = 0;
    for (size_t slot = 0; slot < N_SLOTS; slot++) {
        size_t n = (n_tokens[slot] + KF_KV_BLOCK_SIZE - 1) / KF_KV_BLOCK_SIZE;
        assert_int_equal(kf_kv_cache_reserved(c, slot), n * KF_KV_BLOCK_SIZE);
        for (size_t i = 0; i < n; i++) {
            int32_t block = kf_kv_cache_table(c, slot)[i];
            assert_in_range(block, 0, N_BLOCKS - 1);
            assert_int_equal(owners[block]++, 0);
        }
        n_used += n;
    }
    assert_int_equal(kf_kv_cache_n_free(c), N_BLOCKS - n_used);
}

static void test_random_history(void **state) {
    (void)state;
    kf_kv_cache *c = NULL;
    size_t n_tokens[N_SLOTS] = {0}, n_refused = 0;
    assert_ok(kf_kv_cache_new(d, &shape, &c));
    uint32_t r = 7;
    for (size_t round = 0; round < 20000; round++) {
        r ^= r << 13, r ^= r >> 17, r ^= r << 5;
        size_t slot = r % N_SLOTS;
        if (r >> 8 & 3) {
            size_t want = n_tokens[slot] + (r >> 12) % 40;
            if (want > MAX_SEQLEN) want = MAX_SEQLEN;
            kf_status s = kf_kv_cache_reserve(c, slot, want);
            assert_true(s == KF_OK || s == KF_ERR_OVERLOADED);
            if (s == KF_OK) n_tokens[slot] = want;
            n_refused += s != KF_OK;
        } else {
            kf_kv_cache_release(c, slot);
            n_tokens[slot] = 0;
        }
        check_owners(c, n_tokens);
    }
    assert_true(n_refused > 100); /* it ran out often enough to be a test of that */
    kf_kv_cache_free(c);
    assert_int_equal(d->memory_bytes_used, 0);
}

static void test_limits(void **state) {
    (void)state;
    kf_kv_cache *c = NULL;
    assert_ok(kf_kv_cache_new(d, &shape, &c));
    assert_int_equal(kf_kv_block_bytes(d, &shape), 2 * 3 * 2 * 16 * 12 * 4);
    assert_int_equal(kf_kv_cache_bytes(c), N_BLOCKS * kf_kv_block_bytes(d, &shape));
    assert_int_equal(kf_kv_cache_max_blocks(c), 13);
    assert_refused(kf_kv_cache_reserve(c, 0, MAX_SEQLEN + 1), KF_ERR_TOO_LARGE, "201 tokens");
    assert_ok(kf_kv_cache_reserve(c, 0, MAX_SEQLEN));
    assert_ok(kf_kv_cache_reserve(c, 0, 1)); /* what it has is enough: nothing is given back */
    assert_int_equal(kf_kv_cache_reserved(c, 0), 13 * 16);
    kf_kv_cache_free(c);

    kf_kv_shape huge = shape;
    huge.n_blocks = (size_t)1 << 40;
    assert_int_equal(kf_kv_cache_new(d, &huge, &c), KF_ERR_NO_MEMORY);
    assert_int_equal(d->memory_bytes_used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_history), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
