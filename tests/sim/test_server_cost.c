/* Aim: what a device takes is measured at start and corrected from then on: one that has become slower is planned for,
 * one that is itself again is trusted again, little by little, and no answer changes. Method: the null device with a
 * pause in its sampler, so that a decoder step takes what the test says; the correction is read as the metric says it.
 */
#include "sim/rig.h"

#include <stdatomic.h>

#include "observe/metrics.h"

enum { QUICK_US = 1000, SLOW_US = 6000 };

static struct kf_device_ops ops;
static const struct kf_device_ops *honest;
static atomic_uint pause_us = QUICK_US;

static void sample_after_a_pause(kf_stream *s, kf_sample_out *out, float *logits, const kf_sample_params *params,
                                 const kf_sampler *sm, size_t n_rows) {
    usleep(atomic_load(&pause_us));
    honest->sample(s, out, logits, params, sm, n_rows);
}

static void pausing(kf_device *d) {
    honest = d->ops;
    ops = *honest;
    ops.sample = sample_after_a_pause;
    d->ops = &ops;
}

/* One request's answer into slot i; returns the tokens that it took. */
static size_t ask(rig *r, int i) {
    r->answers[i] = (answer){0};
    kf_server_submit(r->server, request(r, i, texts[0], 48));
    wait_finals(r, 1);
    assert_int_equal(r->answers[i].code, KF_CODE_OK);
    return r->answers[i].completion_tokens;
}

static double decode_ratio(rig *r) {
    wait_empty(r); /* the gauges are set after the last final */
    return kf_metric_read(KF_M_COST, KF_WK_DECODE);
}

static void follows_the_device(void **state) {
    (void)state;
    rig *r = start_with((rig_opts){.device = "null", .n_jobs = 4, .max_running = 2, .faults = pausing});
    size_t n_tokens = ask(r, 0);
    assert_true(n_tokens > 10);
    double before = decode_ratio(r);
    assert_true(before >= 1 && before <= 4);

    atomic_store(&pause_us, SLOW_US);
    for (size_t n = 0; n < 60;)
        n += ask(r, 1);
    double slow = decode_ratio(r);
    assert_true(slow > 3 && slow <= 4); /* six times as slow; four times is what is believed */

    atomic_store(&pause_us, QUICK_US);
    double now = slow;
    for (size_t n = 0; n < 1500 && now > slow - 1; now = decode_ratio(r))
        n += ask(r, 2);
    assert_true(now <= slow - 1);
    assert_string_equal(r->answers[1].text, r->answers[0].text);
    assert_string_equal(r->answers[2].text, r->answers[0].text);
    print_message("%.2f as measured, %.2f slow, %.2f on the way back\n", before, slow, now);
    end(r);
}

int main(void) {
    models = tiny_models();
    const struct CMUnitTest tests[] = {cmocka_unit_test(follows_the_device)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove(models);
    return failed;
}
