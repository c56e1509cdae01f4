/* Aim: every hidden_act that transformers can name computes what transformers computes. Method: its ACT2FN on a grid,
 * each name parsed as config.json's reader does, within 1e-6 of 1 + |y|. prelu, which has a weight, is the checkpoint
 * bert_prelu. */
#include "golden.h"
#include "spoil.h"

#include "model/config.h"

static void each_name(const golden_device *on) {
    golden g = golden_open("activations.safetensors");
    kf_device *d = NULL;
    kf_stream *s = NULL;
    size_t n, one;
    float *x = golden_read(&g, "x", &n, &one), *y = calloc(n, sizeof *y);
    assert_non_null(y);
    assert_ok(kf_device_open(on->device, &on->opts, &d));
    assert_ok(kf_stream_open(d, &s));
    void *dx = lend(s, x, n * sizeof *x), *dy = lend(s, y, n * sizeof *y);
    for (size_t i = 0; i < kf_checkpoint_n_tensors(g.file); i++) {
        const char *name = kf_checkpoint_tensor(g.file, i)->name;
        if (strcmp(name, "x") == 0) continue;
        size_t n_want;
        float *want = golden_read(&g, name, &n_want, &one);
        kf_activation act;
        assert_int_equal(n_want, n);
        assert_ok(kf_activation_parse(name, &act));
        kf_activate(s, dy, dx, act, n);
        free(y);
        y = fetch(s, dy, n * sizeof *y);
        double worst = 0;
        for (size_t k = 0; k < n; k++) {
            double e = fabs((double)y[k] - want[k]) / (1 + fabs(want[k]));
            if (!(e <= worst)) worst = e;
        }
        printf("%-20s largest error %.2e\n", name, worst);
        if (!(worst <= 1e-6)) fail_msg("%s is %g away", name, worst);
        free(want);
    }
    assert_true(kf_checkpoint_n_tensors(g.file) >= 20);
    kf_activation act;
    assert_int_equal(kf_activation_parse("prelu", &act), KF_ERR_UNSUPPORTED);
    take_back(d);
    kf_stream_close(s);
    kf_device_close(d);
    kf_checkpoint_close(g.file);
    free(x);
    free(y);
}

static void test_each_name(void **state) {
    (void)state;
    for_golden_devices(golden_is_f32, each_name);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
