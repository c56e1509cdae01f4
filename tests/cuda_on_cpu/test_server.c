/* Aim: a server on the CUDA device answers alone as in company, with graphs and without, and when the device is lost at
 * any kernel of its life each request still has exactly one final, nothing hangs, and what cannot start says why.
 * Method: the server of tests/sim on the CPU runner, whose device fails at a kernel that the test names or from a call
 * on, with the errors that a card gives. */
#include "sim/rig.h"

#include "base/log.h"
#include "observe/metrics.h"
#include "runner.h"

enum { N = 12, MAX_TOKENS = 12 };
enum { ILLEGAL_ADDRESS = 700, ECC = 214, UNAVAILABLE = 46 }; /* cudaError_t */

static char alone[N_TEXTS][2048];

static void submit_all(rig *r) {
    for (int i = 0; i < N; i++)
        kf_server_submit(r->server, request(r, i, texts[i % N_TEXTS], MAX_TOKENS));
}

static rig *start_cuda(void) {
    return start("cuda", N + 1, 4);
}

static int answers_of_a_quiet_day(void **state) {
    (void)state;
    rig *r = start_cuda();
    for (int i = 0; i < N_TEXTS; i++) {
        kf_server_submit(r->server, request(r, i, texts[i], MAX_TOKENS));
        wait_finals(r, 1);
        assert_int_equal(r->answers[i].code, KF_CODE_OK);
        snprintf(alone[i], sizeof alone[i], "%s", r->answers[i].text);
    }
    end(r);
    return 0;
}

/* Steps run as graphs, and no run allocates or captures. */
static void in_company(void **state) {
    (void)state;
    rig *r = start_cuda();
    oncpu_counts before = oncpu_calls;
    submit_all(r);
    wait_finals(r, N);
    assert_true(oncpu_calls.graph_launches > before.graph_launches + MAX_TOKENS);
    assert_int_equal(oncpu_calls.allocations, before.allocations);
    assert_int_equal(oncpu_calls.captures, before.captures);
    for (int i = 0; i < N; i++)
        assert_string_equal(r->answers[i].text, alone[i % N_TEXTS]);
    wait_empty(r);
    end(r);
}

static void no_capture(kf_device *d) {
    static struct kf_device_ops ops;
    ops = *d->ops;
    ops.capture_begin = NULL;
    d->ops = &ops;
}

static void without_graphs(void **state) {
    (void)state;
    rig *r = start_with((rig_opts){.device = "cuda", .n_jobs = N, .max_running = 4, .faults = no_capture});
    oncpu_counts before = oncpu_calls;
    submit_all(r);
    wait_finals(r, N);
    assert_int_equal(oncpu_calls.graph_launches, before.graph_launches);
    for (int i = 0; i < N; i++)
        assert_string_equal(r->answers[i].text, alone[i % N_TEXTS]);
    end(r);
}

static void lost_at_a_kernel(void **state) {
    (void)state;
    static const unsigned long kernels[] = {1, 17, 150, 300}; /* all requests take about 600 */
    static const int errors[] = {ILLEGAL_ADDRESS, ECC, UNAVAILABLE};
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        rig *r = start_cuda();
        oncpu_lose_device_after(kernels[i], errors[i % 3]);
        submit_all(r);
        expect_lost(r, N, alone, N_TEXTS);
        end(r);
        oncpu_lose_device(0);
    }
}

/* Lost between two of the host's calls, wherever the device thread happens to be. */
static void lost_from_a_call_on(void **state) {
    (void)state;
    for (int n_first = 0; n_first < N; n_first += 5) {
        rig *r = start_cuda();
        submit_all(r);
        int n = n_first ? drain_outbox(r) : 0;
        for (; n < n_first; n += drain_outbox(r))
            usleep(1000);
        oncpu_lose_device(ECC);
        wait_finals(r, N - n);
        for (int i = 0; i < N; i++)
            assert_int_equal(r->answers[i].n_finals, 1);
        end(r);
        oncpu_lose_device(0);
    }
}

static void lost_while_idle(void **state) {
    (void)state;
    rig *r = start_cuda();
    oncpu_lose_device(UNAVAILABLE);
    kf_server_state s;
    int64_t until = kf_clock_now_ns() + 10000000000;
    do {
        usleep(10000);
        kf_server_state_get(r->server, &s);
    } while (!s.device_failed && kf_clock_now_ns() < until);
    assert_true(s.device_failed);
    end(r);
    oncpu_lose_device(0);
}

int main(void) {
    models = tiny_models();
    kf_log_to(STDERR_FILENO, KF_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_company),          cmocka_unit_test(without_graphs),  cmocka_unit_test(lost_at_a_kernel),
        cmocka_unit_test(lost_from_a_call_on), cmocka_unit_test(lost_while_idle),
    };
    int failed = cmocka_run_group_tests(tests, answers_of_a_quiet_day, NULL);
    tiny_remove(models);
    return failed;
}
