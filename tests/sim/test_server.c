/* Aim: the worker without its network keeps its promises: every request gets exactly one final, parts add up to the
 * final, bad input and overload are answered, cancel and deadline end a job, and stop answers what is in hand.
 * Method: the real server, on the CPU device with tiny random models and on the null device, driven from one thread as
 * transport drives it. */
#include "sim/rig.h"

static void one_message(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 4);
    kf_server_submit(r->server, request(r, 1, "我想要一件红色的羽绒服", 24));
    wait_finals(r, 1);
    const answer *a = &r->answers[1];
    assert_int_equal(a->n_finals, 1);
    assert_int_equal(a->code, KF_CODE_OK);
    assert_true(a->has_understanding);
    assert_int_equal(a->n_intents, 4);
    assert_true(a->n_words > 0);
    assert_true(a->completion_tokens > 0 && a->completion_tokens <= 24);
    assert_true(a->finish == KF_FINISH_STOP || a->finish == KF_FINISH_LENGTH);
    assert_true(kf_server_idle(r->server));
    end(r);
}

/* Parts are numbered, and laid end to end they are the final's text. */
static void parts_add_up(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 4);
    for (int i = 0; i < N_TEXTS; i++) {
        kf_job *job = request(r, i, texts[i], 40);
        job->request.stream = true;
        kf_server_submit(r->server, job);
    }
    wait_finals(r, N_TEXTS);
    int n_parts = 0;
    for (int i = 0; i < N_TEXTS; i++) {
        n_parts += r->answers[i].n_parts;
        assert_string_equal(r->answers[i].parts, r->answers[i].text);
    }
    assert_true(n_parts >= N_TEXTS);
    end(r);
}

/* Promise 3, seen from outside: the text is the same alone, and with every slot and lane in use. */
static void alone_is_in_company(void **state) {
    (void)state;
    rig *alone = start("cpu", 8, 1), *company = start("cpu", 128, 6);
    enum { N = 96 };
    for (int i = 0; i < N_TEXTS; i++) {
        kf_job *job = request(alone, i, texts[i], 30);
        job->request.generate.temperature = i % 2 ? 0.9f : 0;
        kf_server_submit(alone->server, job);
        wait_finals(alone, 1);
    }
    for (int i = 0; i < N; i++) {
        kf_job *job = request(company, i, texts[i % N_TEXTS], 30);
        job->request.generate.temperature = i % N_TEXTS % 2 ? 0.9f : 0;
        job->request.lane = (kf_lane)(i % KF_N_LANES);
        kf_server_submit(company->server, job);
    }
    wait_finals(company, N);
    for (int i = 0; i < N; i++) {
        assert_string_equal(company->answers[i].text, alone->answers[i % N_TEXTS].text);
        assert_string_equal(company->answers[i].intent, alone->answers[i % N_TEXTS].intent);
    }
    end(alone);
    end(company);
}

/* A gap that no step keeps: prompts go in the smallest chunks, and of some of these the last is a single token. */
static void however_the_prompt_is_cut(void **state) {
    (void)state;
    enum { N = 40 };
    kf_turn turns[] = {{KF_ROLE_USER, str("1")}, {KF_ROLE_ASSISTANT, str("1")}};
    rig *whole = start("cpu", N, 4), *cut = start_with((rig_opts){"cpu", N, 4, .max_gap_ms = 1e-6});
    for (int i = 0; i < N; i++) {
        char text[N + 1];
        memset(text, '1', (size_t)i + 1);
        text[i + 1] = 0;
        kf_job *jobs[] = {request(whole, i, text, 12), request(cut, i, text, 12)};
        if (i % 2) { /* five tokens more: lengths of both parities, whatever of the text is named again */
            jobs[0]->request.history = jobs[1]->request.history = turns;
            jobs[0]->request.n_history = jobs[1]->request.n_history = 2;
        }
        kf_server_submit(whole->server, jobs[0]);
        kf_server_submit(cut->server, jobs[1]);
    }
    wait_finals(whole, N);
    wait_finals(cut, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(whole->answers[i].code, KF_CODE_OK);
        assert_true(whole->answers[i].completion_tokens > 0);
        assert_string_equal(cut->answers[i].text, whole->answers[i].text);
    }
    end(whole);
    end(cut);
}

static void bad_input_is_answered(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 4);
    char longest[62 * 3 + 1] = "", too_long[63 * 3 + 1] = "";
    for (int i = 0; i < 62; i++)
        strcat(longest, "我");
    for (int i = 0; i < 63; i++)
        strcat(too_long, "我");
    kf_server_submit(r->server, request(r, 0, longest, 8));
    kf_server_submit(r->server, request(r, 1, too_long, 8));
    kf_job *refused = request(r, 2, "", 8);
    refused->admitted = KF_ERR_INVALID;
    refused->refusal = str("text is empty: send some words");
    kf_server_submit(r->server, refused);
    kf_server_submit(r->server, request(r, 3, "我", 4000000)); /* more than a sequence holds: as many as it holds */
    wait_finals(r, 4);
    assert_int_equal(r->answers[0].code, KF_CODE_OK);
    assert_int_equal(r->answers[1].code, KF_CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(r->answers[1].message, "65 tokens"));
    assert_non_null(strstr(r->answers[1].message, "64"));
    assert_int_equal(r->answers[2].code, KF_CODE_INVALID_ARGUMENT);
    assert_string_equal(r->answers[2].message, "text is empty: send some words");
    assert_int_equal(r->answers[3].code, KF_CODE_OK);
    assert_true(r->answers[3].completion_tokens <= TINY_CONTEXT / 2);
    end(r);
}

static void understanding_alone(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 4);
    kf_job *job = request(r, 0, texts[0], 8);
    job->request.want = KF_WANT_UNDERSTAND;
    kf_server_submit(r->server, job);
    wait_finals(r, 1);
    assert_int_equal(r->answers[0].code, KF_CODE_OK);
    assert_int_equal(r->answers[0].n_intents, 4);
    assert_string_equal(r->answers[0].text, "");
    assert_int_equal(r->answers[0].completion_tokens, 0);
    end(r);
}

/* Deadlines that have passed on arrival, that pass in the queue, and that pass while the reply is written. */
static void deadlines_end_jobs(void **state) {
    (void)state;
    rig *r = start("cpu", 128, 2);
    enum { N = 100 };
    for (int i = 0; i < N; i++) {
        kf_job *job = request(r, i, texts[i % N_TEXTS], 60);
        job->request.deadline_ns = kf_clock_now_ns() + (i < 2 ? 0 : 1000000);
        kf_server_submit(r->server, job);
    }
    wait_finals(r, N);
    int late = 0, refused = 0;
    for (int i = 0; i < N; i++) {
        late += r->answers[i].code == KF_CODE_DEADLINE_EXCEEDED;
        if (r->answers[i].code != KF_CODE_RESOURCE_EXHAUSTED) continue;
        refused++; /* early: what waits takes longer than a millisecond, and by how much it says */
        assert_true(r->answers[i].retry_after_ms >= 1);
    }
    assert_true(refused > 0);
    assert_int_equal(r->answers[0].code, KF_CODE_DEADLINE_EXCEEDED);
    assert_int_equal(r->answers[1].code, KF_CODE_DEADLINE_EXCEEDED);
    assert_true(late + refused > N / 2); /* two at a time take far longer than a millisecond for all */
    wait_empty(r);
    end(r);
}

static void cancel_ends_one(void **state) {
    (void)state;
    rig *r = start("cpu", 16, 1);
    for (int i = 0; i < 16; i++)
        kf_server_submit(r->server, request(r, i, texts[i % N_TEXTS], 60));
    kf_server_cancel(r->server, str("default"), str("15"));
    kf_server_cancel(r->server, str("another"), str("14"));
    kf_server_cancel(r->server, str("default"), str("no such"));
    wait_finals(r, 16);
    wait_empty(r);
    for (int i = 0; i < 15; i++)
        assert_int_equal(r->answers[i].code, KF_CODE_OK);
    assert_int_equal(r->answers[15].code, KF_CODE_CANCELLED);
    end(r);
}

/* Stop in the middle: everything in hand is answered, what comes later is refused, and nothing is lost. */
static void stop_answers_all(void **state) {
    (void)state;
    rig *r = start("cpu", 64, 2);
    for (int i = 0; i < 60; i++)
        kf_server_submit(r->server, request(r, i, texts[i % N_TEXTS], 60));
    kf_server_stop(r->server);
    kf_server_submit(r->server, request(r, 60, texts[0], 8));
    int n = drain_outbox(r), unavailable = 0;
    assert_int_equal(n, 61);
    for (int i = 0; i <= 60; i++) {
        assert_int_equal(r->answers[i].n_finals, 1);
        unavailable += r->answers[i].code == KF_CODE_UNAVAILABLE;
    }
    assert_true(unavailable > 0);
    assert_int_equal(r->answers[60].code, KF_CODE_UNAVAILABLE);
    assert_true(kf_server_idle(r->server));
    end(r);
}

/* Drain finishes what is in hand with its answer and refuses the rest. */
static void drain_finishes(void **state) {
    (void)state;
    rig *r = start("cpu", 16, 4);
    for (int i = 0; i < 8; i++)
        kf_server_submit(r->server, request(r, i, texts[i % N_TEXTS], 20));
    kf_server_drain(r->server);
    kf_server_submit(r->server, request(r, 8, texts[0], 20));
    wait_finals(r, 9);
    for (int i = 0; i < 8; i++)
        assert_int_equal(r->answers[i].code, KF_CODE_OK);
    assert_int_equal(r->answers[8].code, KF_CODE_UNAVAILABLE);
    kf_server_state s;
    kf_server_state_get(r->server, &s);
    assert_false(s.ready);
    assert_true(s.draining);
    end(r);
}

/* The null device: all jobs in use is an answer (NULL), and every job comes back. */
static void null_device_takes_many(void **state) {
    (void)state;
    rig *r = start("null", 64, 16);
    int sent = 0, got = 0;
    while (sent < 500) {
        kf_job *job = sent - got < 64 ? request(r, sent, texts[sent % N_TEXTS], 16) : NULL;
        if (!job) {
            assert_null(kf_job_get(r->server));
            got += drain_outbox(r);
            continue;
        }
        kf_server_submit(r->server, job);
        sent++;
    }
    wait_finals(r, sent - got);
    for (int i = 0; i < 500; i++)
        assert_int_equal(r->answers[i].code, KF_CODE_OK);
    kf_server_state s;
    kf_server_state_get(r->server, &s);
    assert_true(s.ready);
    end(r);
}

int main(void) {
    models = tiny_models();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_message),
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(alone_is_in_company),
        cmocka_unit_test(however_the_prompt_is_cut),
        cmocka_unit_test(bad_input_is_answered),
        cmocka_unit_test(understanding_alone),
        cmocka_unit_test(deadlines_end_jobs),
        cmocka_unit_test(cancel_ends_one),
        cmocka_unit_test(stop_answers_all),
        cmocka_unit_test(drain_finishes),
        cmocka_unit_test(null_device_takes_many),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove(models);
    return failed;
}
