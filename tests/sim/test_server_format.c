/* Aim: every reply under a response_format parses and satisfies it, whatever the model, the sampling and the company;
 * those beside it say what they say alone; what cannot be met is refused in words; bias and penalties change draws as
 * promised. Method: the real server with the demo's decoder and with a tiny random one that would say anything; one
 * device whose steps are never done until they are waited for, as a GPU's, so that rows wait for their tokens. */
#include "serve/constrain.h"
#include "sim/rig.h"
#include "unit/schema_check.h"

static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"intent\":{\"enum\":[\"退货\",\"换货\",\"咨询\"]},\"reason\":{\"type\":"
    "\"string\","
    "\"maxLength\":12},\"n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":99}},\"required\":[\"intent\",\"n\"]}",
    "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1}",
    "{\"type\":\"object\",\"properties\":{\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}},\"v\":{\"type\":"
    "\"number\"}},\"required\":[\"v\"]}",
    "{}",
};
enum { N_SCHEMAS = sizeof schemas / sizeof *schemas, N_REQUESTS = 32, MAX_TOKENS = 60 };

/* ---- a device that is done only when somebody waits ---- */

static struct kf_device_ops late_ops;
static const struct kf_device_ops *prompt_ops;
static kf_event *pending[16];

static kf_event **place_of(const kf_event *e) {
    for (size_t i = 0; i < 16; i++)
        if (pending[i] == e) return &pending[i];
    return NULL;
}

static kf_status late_record(kf_stream *s, kf_event *e) {
    kf_event **at = place_of(e) ? place_of(e) : place_of(NULL);
    *at = e;
    return prompt_ops->event_record(s, e);
}

static bool late_done(kf_event *e) {
    return !place_of(e) && prompt_ops->event_done(e);
}

static kf_status late_wait(kf_event *e) {
    if (place_of(e)) *place_of(e) = NULL;
    return prompt_ops->event_wait(e);
}

static void late(kf_device *d) {
    memset(pending, 0, sizeof pending);
    late_ops = *(prompt_ops = d->ops);
    late_ops.event_record = late_record;
    late_ops.event_done = late_done;
    late_ops.event_wait = late_wait;
    d->ops = &late_ops;
}

/* ---- requests ---- */

static kf_job *formed(rig *r, int number, const char *text, const char *schema, uint32_t max_tokens) {
    kf_job *job = request(r, number, text, max_tokens);
    job->request.generate.format = KF_GRAMMAR_SCHEMA;
    job->request.generate.format_text = str(schema);
    return job;
}

static void check_reply(const answer *a, const char *schema) {
    json_t *s = json_loads(schema, 0, NULL), *v = json_loads(a->text, JSON_DECODE_ANY, NULL);
    assert_int_equal(a->code, KF_CODE_OK);
    assert_true(a->finish == KF_FINISH_STOP || a->finish == KF_FINISH_LENGTH);
    if (!v) fail_msg("no JSON: %s", a->text);
    if (!schema_ok(s, s, v)) fail_msg("%s is not met by %s", schema, a->text);
    json_decref(s);
    json_decref(v);
}

/* A third without a format; every kind of sampling; more requests than sequences. Text i is `texts[i % N_TEXTS]`. */
static void submit(rig *r, int i) {
    bool free_text = i % 3 == 2;
    kf_job *job = free_text ? request(r, i, texts[i % N_TEXTS], 24)
                            : formed(r, i, texts[i % N_TEXTS], schemas[i % N_SCHEMAS], MAX_TOKENS);
    job->request.generate.temperature = i % 2 ? 1.2f : 0;
    job->request.generate.top_k = i % 5 ? 0 : 40;
    job->request.generate.repetition_penalty = i % 4 ? 1 : 1.3f;
    job->request.generate.seed = (uint64_t)i;
    job->request.stream = i % 7 == 0;
    kf_server_submit(r->server, job);
}

static void replies_satisfy(rig_opts o, const rig *alone) {
    rig *r = start_with(o);
    for (int i = 0; i < N_REQUESTS; i++)
        submit(r, i);
    wait_finals(r, N_REQUESTS);
    for (int i = 0; i < N_REQUESTS; i++) {
        if (i % 3 == 2) continue;
        check_reply(&r->answers[i], schemas[i % N_SCHEMAS]);
        if (r->answers[i].n_parts) assert_string_equal(r->answers[i].parts, r->answers[i].text);
    }
    for (int i = 0; i < N_REQUESTS && alone; i++)
        assert_string_equal(r->answers[i].text, alone->answers[i].text);
    wait_empty(r);
    end(r);
}

static void every_reply_satisfies_its_schema(void **state) {
    (void)state;
    rig *alone = start("cpu", 8, 1);
    for (int i = 0; i < N_REQUESTS; i++) {
        submit(alone, i);
        wait_finals(alone, 1);
    }
    replies_satisfy((rig_opts){"cpu", N_REQUESTS, 6}, alone);
    replies_satisfy((rig_opts){"cpu", N_REQUESTS, 6, .faults = late}, alone);
    replies_satisfy((rig_opts){"null", N_REQUESTS, 6}, NULL);
    end(alone);
}

/* The same with the demo's decoder, which was taught to write replies, not JSON. */
static void so_does_the_demo(void **state) {
    (void)state;
    char *tiny = models, demo[] = KF_SOURCE_DIR "/models";
    models = demo;
    replies_satisfy((rig_opts){"cpu", N_REQUESTS, 6}, NULL);
    models = tiny;
}

/* A cache that holds few of them: sequences are set back and computed again, in the middle of their JSON. */
static void set_back_or_not(void **state) {
    (void)state;
    replies_satisfy((rig_opts){"cpu", N_REQUESTS, 6, .kv_cache_bytes = 1 << 20, .faults = late}, NULL);
}

static void a_regex_is_matched(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 4);
    for (int i = 0; i < 8; i++) {
        kf_job *job = request(r, i, texts[i % N_TEXTS], 20);
        job->request.generate.format = KF_GRAMMAR_REGEX;
        job->request.generate.format_text = str("(好的|抱歉)，[0-9]{2,4}元[。！]");
        job->request.generate.temperature = 1;
        job->request.generate.seed = (uint64_t)i;
        kf_server_submit(r->server, job);
    }
    wait_finals(r, 8);
    for (int i = 0; i < 8; i++)
        if (!pattern_found("^(好的|抱歉)，[0-9]{2,4}元[。！]$", r->answers[i].text)) fail_msg("%s", r->answers[i].text);
    end(r);
}

static void what_cannot_be_met_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *schema, *words;
        kf_code code;
        uint32_t max_tokens;
    } cases[] = {
        {"{\"type\":\"number\",\"multipleOf\":2}", "schema at /: `multipleOf`", KF_CODE_UNIMPLEMENTED, 20},
        {"{\"type\":\"string\",\"enum\":[1]}", "`enum` has no value", KF_CODE_INVALID_ARGUMENT, 20},
        {"{\"type\":", "no JSON", KF_CODE_INVALID_ARGUMENT, 20},
        {"{\"type\":\"string\",\"minLength\":30}", "shortest text may take 32 tokens", KF_CODE_INVALID_ARGUMENT, 20},
    };
    rig *r = start("cpu", 8, 4);
    for (int i = 0; i < 4; i++) {
        kf_server_submit(r->server, formed(r, i, "你好", cases[i].schema, cases[i].max_tokens));
        wait_finals(r, 1);
        assert_int_equal(r->answers[i].code, cases[i].code);
        if (!strstr(r->answers[i].message, cases[i].words)) fail_msg("%s", r->answers[i].message);
    }
    end(r);
}

static void a_bias_decides_what_is_said(void **state) {
    (void)state;
    rig *r = start("cpu", 8, 4);
    kf_logit_adjust bias = {.value = 100};
    kf_job *job = request(r, 0, "你好", 12);
    kf_tokenizer *t;
    char path[512];
    snprintf(path, sizeof path, "%s/decoder", models);
    assert_int_equal(kf_tokenizer_open(path, &t), KF_OK);
    bias.token = kf_tokenizer_id(t, "1");
    assert_true(bias.token >= 0);
    job->request.generate.logit_bias = &bias;
    job->request.generate.n_logit_bias = 1;
    kf_server_submit(r->server, job);
    wait_finals(r, 1);
    assert_string_equal(r->answers[0].text, "111111111111");
    kf_logit_adjust unknown = {.token = 1 << 20};
    job = request(r, 1, "你好", 12);
    job->request.generate.logit_bias = &unknown;
    job->request.generate.n_logit_bias = 1;
    kf_server_submit(r->server, job);
    wait_finals(r, 1);
    assert_int_equal(r->answers[1].code, KF_CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(r->answers[1].message, "generate.logit_bias[0].token: 1048576"));
    kf_tokenizer_close(t);
    end(r);
}

/* presence once, frequency each time, on top of a bias. */
static void penalties_add_up(void **state) {
    (void)state;
    int32_t ids[16] = {0};
    kf_logit_adjust adjust[16] = {{.token = 7, .value = 1}};
    static const int32_t drawn[] = {3, 7, 3, 9, 3, 7};
    kf_job_impl j = {.ids = ids, .n_prompt = 2, .max_new = 10, .adjust = adjust, .n_adjust = 1};
    j.job.request.generate = (kf_generate){.presence_penalty = 0.5f, .frequency_penalty = 0.25f};
    assert_true(kf_constrain_waits(&j));
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(kf_constrain_drawn(NULL, &j, drawn[i]), KF_OK);
        ids[j.n_prompt + j.n_written++] = drawn[i];
    }
    static const kf_logit_adjust want[] = {{7, 0}, {3, -1.25f}, {9, -0.75f}};
    assert_int_equal(j.n_adjust, 3);
    assert_memory_equal(adjust, want, sizeof want);
}

static void a_frequency_penalty_ends_a_repetition(void **state) {
    (void)state;
    rig *r = start_with((rig_opts){"cpu", 8, 4, .faults = late});
    size_t distinct[2] = {0};
    for (int i = 0; i < 2; i++) {
        kf_job *job = request(r, i, "我想要", 40);
        job->request.generate.frequency_penalty = i ? 2 : 0;
        kf_server_submit(r->server, job);
        wait_finals(r, 1);
        assert_int_equal(r->answers[i].code, KF_CODE_OK);
        bool seen[256] = {false};
        for (const unsigned char *c = (const unsigned char *)r->answers[i].text; *c; c++) {
            distinct[i] += !seen[*c];
            seen[*c] = true;
        }
    }
    assert_true(distinct[1] > distinct[0]);
    end(r);
}

static int setup(void **state) {
    (void)state;
    return (models = tiny_models()) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    tiny_remove(models);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reply_satisfies_its_schema),
        cmocka_unit_test(so_does_the_demo),
        cmocka_unit_test(set_back_or_not),
        cmocka_unit_test(a_regex_is_matched),
        cmocka_unit_test(what_cannot_be_met_is_refused),
        cmocka_unit_test(a_bias_decides_what_is_said),
        cmocka_unit_test(penalties_add_up),
        cmocka_unit_test(a_frequency_penalty_ends_a_repetition),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
