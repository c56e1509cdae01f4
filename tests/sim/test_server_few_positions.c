/* Aim: an encoder of so few positions that ENCODE_MAX_TOKENS of them are more texts than a pass holds is measured at
 * start, and answers. Method: the tiny models with 16 positions; a whole text fits, a longer one is refused. */
#define TINY_POSITIONS 16
#include "sim/rig.h"

static void starts_and_answers(void **state) {
    (void)state;
    rig *r = start("cpu", 4, 2);
    assert_int_equal(kf_server_max_text_tokens(r->server), TINY_POSITIONS);
    kf_server_submit(r->server, request(r, 0, "多少钱", 4));
    kf_server_submit(r->server, request(r, 1, "我想要一件红色的羽绒服多少钱退货在吗", 4));
    wait_finals(r, 2);
    assert_int_equal(r->answers[0].code, KF_CODE_OK);
    assert_int_equal(r->answers[1].code, KF_CODE_INVALID_ARGUMENT);
    end(r);
}

int main(void) {
    models = tiny_models();
    const struct CMUnitTest tests[] = {cmocka_unit_test(starts_and_answers)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove(models);
    return failed;
}
