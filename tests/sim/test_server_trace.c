/* Aim: a server's trace tells every request's life, every run and every layer, without a word of the customer's.
 * Method: a served load, refused and cancelled requests among it, on the
 * null and the CPU device; the file is read back with jansson. */
#include "sim/rig.h"
#include "trace_check.h"

#include "observe/trace_file.h"

enum { N = 40 };

static char path[] = "/tmp/kefu_traceXXXXXX";

static void load(rig *r) {
    for (int i = 0; i < N; i++) {
        kf_job *job = request(r, i, texts[i % N_TEXTS], 12);
        job->request.want = i % 4 ? KF_WANT_REPLY : KF_WANT_UNDERSTAND;
        job->request.stream = i % 2;
        if (i == 5) job->request.id = str("5 13812345678");
        if (i % 10 == 9) job->request.deadline_ns = kf_clock_now_ns() - 1;
        kf_server_submit(r->server, job);
        if (i % 10 == 8) kf_server_cancel(r->server, job->request.tenant, job->request.id);
    }
    wait_finals(r, N);
}

static trace_seen traced(const char *device) {
    kf_trace_file *f;
    assert_int_equal(kf_trace_file_open(path, &f), KF_OK);
    rig *r = start_with((rig_opts){.device = device, .n_jobs = N, .max_running = 4, .plain_products = true});
    load(r);
    end(r);
    kf_trace_file_close(f);
    return trace_read(path);
}

static void the_whole_life_is_there(void **state) {
    trace_seen t = traced(*state);
    assert_int_equal(t.n_dropped, 0);
    assert_int_equal(t.n_requests, N);
    assert_int_equal(trace_count(&t, "queued"), N);
    assert_int_equal(trace_count(&t, "publish"), N);
    assert_true(trace_count(&t, "understand") >= N / 2);
    assert_true(trace_count(&t, "prefill") > 0);
    assert_true(trace_count(&t, "run") > 0 && trace_count(&t, "run") <= t.n_runs);
    assert_true(trace_count(&t, "encoder layer") > 0 && trace_count(&t, "decoder layer") > 0);
    json_decref(t.events);
}

static void runs_say_what_they_were_to_take(void **state) {
    trace_seen t = traced(*state);
    size_t n_work = 0;
    for (size_t i = 0; i < json_array_size(t.events); i++) {
        const json_t *e = json_array_get(t.events, i), *args = json_object_get(e, "args");
        if (strcmp(trace_text(e, "name"), "run")) continue;
        assert_true(trace_number(args, "predicted_us") >= 0);
        assert_true(trace_number(args, "taken_us") <= trace_number(e, "dur") + 1);
        n_work += trace_number(args, "decode_rows") + trace_number(args, "prefill_tokens") > 0;
        n_work += trace_number(args, "encode_tokens") > 0;
    }
    assert_true(n_work > 0);
    json_decref(t.events);
}

static void no_words_of_the_customer(void **state) {
    trace_seen t = traced(*state);
    char *all = json_dumps(t.events, 0);
    assert_non_null(strstr(all, "[number]"));
    assert_null(strstr(all, "13812345678"));
    assert_null(strstr(all, "羽绒服"));
    free(all);
    json_decref(t.events);
}

int main(void) {
    static char cpu[] = "cpu", null[] = "null";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_whole_life_is_there, null),
        cmocka_unit_test_prestate(the_whole_life_is_there, cpu),
        cmocka_unit_test_prestate(runs_say_what_they_were_to_take, cpu),
        cmocka_unit_test_prestate(no_words_of_the_customer, null),
    };
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    models = tiny_models();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove(models);
    unlink(path);
    return failed;
}
