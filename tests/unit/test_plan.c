/* Aim: the plan's rules one by one: order of lanes, deadlines, the budget and its shares, who is set back.
 * Method: a handful of jobs and costs chosen so that the right plan can be worked out by hand. Whole days of traffic
 * are tests/sim/test_plan_replay.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "serve/plan.h"

#define MS INT64_C(1000000)

/* A millisecond a layer whatever its tokens up to 64; a millisecond a row; half a millisecond a prompt token. */
static kf_cost costs(void) {
    kf_cost c = {0};
    kf_cost_add(&c.layer, 64, 1 * MS);
    kf_cost_add(&c.layer, 128, 2 * MS);
    kf_cost_add(&c.decode, 1, 1 * MS);
    kf_cost_add(&c.decode, 8, 8 * MS);
    kf_cost_add(&c.prefill, 1, MS / 2);
    kf_cost_add(&c.prefill, 100, 50 * MS);
    return c;
}

typedef struct rig {
    kf_plan plan;
    kf_run run;
} rig;

static kf_plan_limits limits(void) {
    return (kf_plan_limits){
        .n_jobs = 16,
        .max_running = 8,
        .n_layers = 4,
        .encode_max_tokens = 128,
        .encode_max_seqs = 4,
        .step_max_tokens = 64,
        .n_blocks = 64,
        .block_size = 16,
        .max_gap_ns = 20 * MS,
    };
}

static void begin(rig *r, kf_plan_limits l) {
    kf_cost c = costs();
    assert_int_equal(kf_plan_init(&r->plan, &l, &c), KF_OK);
    assert_int_equal(kf_run_init(&r->run, &l), KF_OK);
}

static void end(rig *r) {
    kf_plan_free(&r->plan);
    kf_run_free(&r->run);
}

static void add(rig *r, uint32_t idx, unsigned lane, int64_t arrived_ns) {
    kf_plan_add(&r->plan, idx, &(kf_plan_job){.lane = lane, .arrived_ns = arrived_ns, .n_encode = 10});
}

static bool next(rig *r) {
    return kf_plan_next(&r->plan, 1, &r->run);
}

/* Understood, and waiting to be written. */
static void wait_decode(rig *r, uint32_t idx, size_t n_prompt, size_t max_new) {
    add(r, idx, 0, idx + 1);
    while (!(next(r) && r->run.encode_finish))
        ;
    kf_plan_decode(&r->plan, idx, n_prompt, max_new);
}

static void curves(void **state) {
    (void)state;
    kf_cost_curve c = {0};
    assert_int_equal(kf_cost_at(&c, 5), 0);
    kf_cost_add(&c, 10, 100);
    assert_int_equal(kf_cost_at(&c, 0), 0);
    assert_int_equal(kf_cost_at(&c, 3), 100);
    assert_int_equal(kf_cost_at(&c, 50), 100);
    kf_cost_add(&c, 20, 300);
    kf_cost_add(&c, 30, 250); /* noise */
    assert_int_equal(kf_cost_at(&c, 15), 200);
    assert_int_equal(kf_cost_at(&c, 25), 300);
    kf_cost_add(&c, 40, 500);
    assert_int_equal(kf_cost_at(&c, 50), 700); /* the last slope goes on */
    assert_int_equal(kf_cost_fit(&c, 99, 100), 0);
    assert_int_equal(kf_cost_fit(&c, 100, 100), 10);
    assert_int_equal(kf_cost_fit(&c, 200, 100), 15);
    assert_int_equal(kf_cost_fit(&c, 300, 100), 30);
    assert_int_equal(kf_cost_fit(&c, 100000, 100), 100);
}

/* High before normal before low, older first within a lane; four fit in a pass. */
static void lanes(void **state) {
    (void)state;
    rig r;
    begin(&r, limits());
    add(&r, 0, 2, 100);
    add(&r, 4, 1, 100);
    add(&r, 1, 1, 200);
    add(&r, 3, 0, 300);
    add(&r, 2, 0, 400);
    assert_true(next(&r));
    assert_int_equal(r.run.n_encode, 4);
    assert_int_equal(r.run.encode[0], 3);
    assert_int_equal(r.run.encode[1], 2);
    assert_int_equal(r.run.encode[2], 4);
    assert_int_equal(r.run.encode[3], 1);
    end(&r);
}

/* A low one that has waited two lanes' age goes before a high one that has just come. */
static void ageing(void **state) {
    (void)state;
    rig r;
    kf_plan_limits l = limits();
    l.encode_max_seqs = 1;
    begin(&r, l);
    add(&r, 0, 2, 1);
    add(&r, 1, 0, 2 * KF_LANE_AGE_NS + 2);
    assert_true(next(&r));
    assert_int_equal(r.run.encode[0], 0);
    end(&r);
}

/* Tenant 7 has sent eight, then tenant 8 sends one, and 7 one more in the high lane: 8 goes after the one of 7 that was
 * first, and the high one before all. */
static void tenants(void **state) {
    (void)state;
    rig r;
    kf_plan_limits l = limits();
    l.encode_max_seqs = 1;
    l.job_ns = 10 * MS;
    begin(&r, l);
    for (uint32_t i = 0; i < 8; i++)
        kf_plan_add(&r.plan, i, &(kf_plan_job){.lane = 1, .tenant = 7, .arrived_ns = 100, .n_encode = 10});
    kf_plan_add(&r.plan, 8, &(kf_plan_job){.lane = 1, .tenant = 8, .arrived_ns = 200, .n_encode = 10});
    kf_plan_add(&r.plan, 9, &(kf_plan_job){.lane = 0, .tenant = 7, .arrived_ns = 300, .n_encode = 10});
    static const uint32_t want[] = {9, 0, 8, 1, 2, 3, 4, 5, 6, 7};
    for (size_t i = 0; i < 10; i++) {
        assert_true(next(&r));
        assert_int_equal(r.run.encode[0], want[i]);
        kf_plan_remove(&r.plan, want[i]);
    }
    for (unsigned lane = 0; lane < KF_PLAN_LANES; lane++)
        assert_int_equal(r.plan.tenants[7].n[lane] + r.plan.tenants[8].n[lane], 0);
    end(&r);
}

static void deadlines(void **state) {
    (void)state;
    rig r;
    begin(&r, limits());
    wait_decode(&r, 0, 16, 8);
    r.plan.seqs[0].deadline_ns = r.plan.next_deadline_ns = 500;
    assert_true(next(&r)); /* runs, with a slot */
    kf_plan_add(&r.plan, 1, &(kf_plan_job){.arrived_ns = 2, .deadline_ns = 400, .n_encode = 10});
    assert_false(r.plan.n_free_blocks == 64);
    assert_false(kf_plan_next(&r.plan, 600, &r.run));
    assert_int_equal(r.run.n_expired, 2);
    assert_int_equal(r.run.expired[0], 0);
    assert_true(r.run.expired_slot[0] >= 0);
    assert_int_equal(r.run.expired[1], 1);
    assert_int_equal(r.run.expired_slot[1], -1);
    assert_int_equal(r.plan.n_free_blocks, 64);
    end(&r);
}

/* 20 ms, a quarter of them the encoder's: 15 ms of prompt are 30 tokens. Without work for the encoder 40. */
static void a_prompt_is_cut(void **state) {
    (void)state;
    rig r;
    begin(&r, limits());
    wait_decode(&r, 0, 60, 8);
    add(&r, 1, 0, 50);
    assert_true(next(&r));
    assert_int_equal(r.run.rows[0].n_tokens, 30);
    assert_false(r.run.rows[0].sample);
    assert_int_equal(r.run.layer_to, 4); /* four layers of a millisecond in the five that are left */
    kf_plan_remove(&r.plan, 1);
    assert_true(next(&r));
    assert_int_equal(r.run.rows[0].n_computed, 30);
    assert_int_equal(r.run.rows[0].n_tokens, 30);
    assert_true(r.run.rows[0].sample);
    assert_int_equal(r.run.layer_to, 0);
    assert_true(next(&r));
    assert_int_equal(r.run.work.n_decode_rows, 1);
    assert_true(r.run.rows[0].sampled);
    end(&r);
}

/* 15 ms less the smallest chunk (8 ms) leave room for 7 rows of a millisecond, of 8 slots. */
static void admission_keeps_room(void **state) {
    (void)state;
    rig r;
    begin(&r, limits());
    assert_int_equal(kf_plan_rows_that_fit(&r.plan), 7);
    for (uint32_t i = 0; i < 8; i++)
        wait_decode(&r, i, 2, 1000);
    for (int i = 0; i < 50; i++)
        next(&r);
    assert_int_equal(r.plan.n_running, 7);
    assert_int_equal(r.run.work.n_decode_rows, 7);
    assert_true(r.run.cost_ns <= 20 * MS);
    end(&r);
}

/* Nobody decodes: one chunk and one layer go in any case, however slow the device is. */
static void slow_device_moves(void **state) {
    (void)state;
    rig r;
    kf_plan_limits l = limits();
    l.max_gap_ns = 1000;
    begin(&r, l);
    assert_int_equal(kf_plan_rows_that_fit(&r.plan), 1);
    add(&r, 0, 0, 1);
    for (int i = 0; i < 4; i++) {
        assert_true(next(&r));
        assert_int_equal(r.run.layer_to - r.run.layer_from, 1);
    }
    assert_true(r.run.encode_finish);
    kf_plan_decode(&r.plan, 0, 20, 2);
    assert_true(next(&r));
    assert_int_equal(r.run.rows[0].n_tokens, KF_PLAN_MIN_CHUNK);
    assert_true(next(&r));
    assert_true(r.run.rows[0].sample);
    assert_true(next(&r));
    assert_int_equal(r.run.work.n_decode_rows, 1);
    assert_false(next(&r)); /* both tokens are drawn */
    end(&r);
}

/* Six blocks; two sequences of two blocks, each about to need a third and a fourth. */
static void newest_is_set_back(void **state) {
    (void)state;
    rig r;
    kf_plan_limits l = limits();
    l.n_blocks = 6;
    begin(&r, l);
    wait_decode(&r, 0, 31, 40);
    wait_decode(&r, 1, 31, 40);
    size_t n_set_back = 0;
    for (int i = 0; i < 40 && n_set_back == 0; i++) {
        next(&r);
        n_set_back = r.run.n_set_back;
    }
    assert_int_equal(n_set_back, 1);
    assert_int_equal(r.run.set_back[0], 1);
    assert_int_equal(r.plan.seqs[1].stage, KF_PLAN_WAIT_DECODE);
    assert_int_equal(r.run.n_rows, 1); /* nobody is admitted in this run */
    size_t n_total = r.plan.seqs[1].n_total;
    assert_true(n_total > 31); /* what it has drawn is kept */
    kf_plan_remove(&r.plan, 0);
    for (int i = 0; i < 4; i++)
        next(&r);
    assert_int_equal(r.plan.seqs[1].stage, KF_PLAN_RUNNING);
    assert_true(r.plan.seqs[1].n_computed >= n_total);
    end(&r);
}

/* A pass whose layers have no room beside the rows of all running ones stops admission until it has gone through. */
static void encoder_is_not_starved(void **state) {
    (void)state;
    rig r;
    kf_plan_limits l = limits();
    l.encode_max_tokens = 4096;
    l.max_running = 1;
    begin(&r, l);
    wait_decode(&r, 0, 2, 40);
    wait_decode(&r, 1, 2, 40);
    kf_plan_add(&r.plan, 2, &(kf_plan_job){.arrived_ns = 60, .n_encode = 2000}); /* a layer takes 31 ms */
    assert_true(next(&r));
    assert_int_equal(r.run.work.n_decode_rows, 1);
    assert_int_equal(r.run.layer_to, 0);
    kf_plan_remove(&r.plan, 0);
    assert_true(next(&r));
    assert_true(r.run.encode_begin);
    assert_int_equal(r.run.encode[0], 2);
    for (size_t layer = 1; layer <= 4; layer++) {
        assert_int_equal(r.run.n_rows, 0); /* 1 has a slot and room, and waits */
        assert_int_equal(r.run.layer_to, layer);
        assert_int_equal(r.run.encode_finish, layer == 4);
        assert_true(next(&r));
    }
    assert_int_equal(r.plan.seqs[1].stage, KF_PLAN_RUNNING);
    end(&r);
}

/* ---- learning ---- */

static double ratio(const kf_cost_curve *c) {
    return 1 + (double)c->slower / KF_COST_ONE;
}

/* Decoder steps take twice as long as was measured; then they take what was measured again. */
static void learns_quickly_and_forgets_slowly(void **state) {
    (void)state;
    kf_cost c = costs();
    const kf_work step = {.n_decode_rows = 8};
    for (int i = 0; i < 24; i++)
        kf_cost_learn(&c, &step, 16 * MS);
    assert_true(ratio(&c.decode) > 1.9 && ratio(&c.decode) <= 2);
    assert_int_equal(c.layer.slower + c.prefill.slower, 0); /* had no share in it */
    assert_true(kf_cost_at(&c.decode, 8) > 15 * MS && kf_cost_at(&c.decode, 1) > 15 * MS / 8);
    assert_true(kf_cost_fit(&c.decode, 8 * MS, 100) == 4);
    for (int i = 0; i < 24; i++)
        kf_cost_learn(&c, &step, 8 * MS);
    assert_true(ratio(&c.decode) > 1.7);
    for (int i = 0; i < 2000; i++)
        kf_cost_learn(&c, &step, 8 * MS);
    assert_true(ratio(&c.decode) < 1.01);
    for (int i = 0; i < 2000; i++)
        kf_cost_learn(&c, &step, 1); /* never below what was measured */
    assert_true(ratio(&c.decode) >= 1 && kf_cost_at(&c.decode, 8) >= 8 * MS);
}

/* In mixed runs each kind moves by its share; runs of one kind alone tell them apart. */
static void tells_kinds_apart(void **state) {
    (void)state;
    kf_cost c = costs();
    const kf_work mixed = {.n_decode_rows = 8, .n_prefill_tokens = 16, .pass_tokens = 10, .n_layers = 2};
    const kf_work decode = {.n_decode_rows = 8};
    assert_int_equal(kf_cost_of(&c, &mixed), 18 * MS);
    for (int i = 0; i < 4000; i++) {
        kf_cost_learn(&c, &mixed, 26 * MS); /* 8 rows take 8, 16 tokens take 16 instead of 8 */
        kf_cost_learn(&c, &decode, 8 * MS);
    }
    assert_true(ratio(&c.prefill) > 1.6 && ratio(&c.decode) < 1.2);
    assert_true(kf_cost_of(&c, &mixed) > 24 * MS && kf_cost_of(&c, &mixed) < 28 * MS);
}

/* A machine that stood still for a minute moves a curve by three eighths, and nothing moves one past four times. */
static void is_bounded(void **state) {
    (void)state;
    kf_cost c = costs();
    const kf_work step = {.n_decode_rows = 1};
    kf_cost_learn(&c, &step, 60000 * MS);
    assert_true(ratio(&c.decode) > 1.37 && ratio(&c.decode) <= 1.375);
    for (int i = 0; i < 100; i++)
        kf_cost_learn(&c, &step, INT64_MAX);
    assert_true(ratio(&c.decode) == 4);
    kf_cost_learn(&c, &step, -1);
    kf_cost_learn(&c, &(kf_work){0}, 5 * MS); /* no work: nothing to learn */
    assert_true(ratio(&c.decode) == 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves),
        cmocka_unit_test(lanes),
        cmocka_unit_test(ageing),
        cmocka_unit_test(tenants),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(a_prompt_is_cut),
        cmocka_unit_test(admission_keeps_room),
        cmocka_unit_test(slow_device_moves),
        cmocka_unit_test(newest_is_set_back),
        cmocka_unit_test(encoder_is_not_starved),
        cmocka_unit_test(learns_quickly_and_forgets_slowly),
        cmocka_unit_test(tells_kinds_apart),
        cmocka_unit_test(is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
