/* Aim: the BERT family computes what transformers computes. Method: checkpoints that make_golden.py made, every layer
 * within 1e-5 of its largest value and the logits within 1e-4 in f32, both within 2e-2 in bf16; on every device. */
#include "golden_run.h"

static void all_models(const golden_device *on) {
    static const struct {
        const char *name;
        size_t n_heads;
    } models[] = {{"bert_trunk", 6}, {"bert_sequence", 1}, {"bert_token", 1}, {"bert_prelu", 1}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        size_t n = golden_case(on, models[i].name);
        assert_true(n >= 1 + 3 * 2 + 2 * models[i].n_heads); /* heads are seen inside the pass and on the host */
    }
}

static void test_layers(void **state) {
    (void)state;
    for_golden_devices(NULL, all_models);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
