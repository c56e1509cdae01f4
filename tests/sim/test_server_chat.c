/* Aim: a served decoder with a chat template is given the ids that the template says, and nothing of a thought is
 * answered or streamed. Method: the tiny models, once with a form of prompt.json and once with a chat template that
 * spells the same ids: the replies are equal; then with one whose prompt ends in <think>, which the noise that the tiny
 * decoder writes never closes. */
#include "sim/rig.h"

static void write_decoder(const char *prompt_json, const char *config) {
    char dir[256], path[600];
    snprintf(dir, sizeof dir, "%s/decoder", models);
    snprintf(path, sizeof path, "%s/prompt.json", dir);
    unlink(path);
    if (prompt_json) tiny_write(dir, "prompt.json", prompt_json);
    tiny_write(dir, "tokenizer_config.json", config);
}

static void ask_all(answer out[N_TEXTS]) {
    rig *r = start("cpu", 16, 4);
    for (int i = 0; i < N_TEXTS; i++) {
        kf_job *job = request(r, i, texts[i], 12);
        job->request.stream = true;
        kf_server_submit(r->server, job);
    }
    wait_finals(r, N_TEXTS);
    memcpy(out, r->answers, N_TEXTS * sizeof *out);
    end(r);
}

static void same_ids_same_replies(void **state) {
    (void)state;
    static answer form[N_TEXTS], chat[N_TEXTS];
    size_t n_bytes = 0;
    write_decoder("{\"bos\":\"<|endoftext|>\",\"user\":\"<|user|>\",\"assistant\":\"<|assistant|>\","
                  "\"earlier_turn\":[],\"present_turn\":[\"user\",\"text\",\"assistant\"],\"stop\":[\"<|end|>\"]}",
                  "{}");
    ask_all(form);
    write_decoder(NULL, "{\"bos_token\":\"<|endoftext|>\",\"eos_token\":\"<|end|>\",\"chat_template\":"
                        "\"{{ bos_token }}<|user|>{{ messages[-1].content }}<|assistant|>\"}");
    ask_all(chat);
    for (int i = 0; i < N_TEXTS; i++) {
        assert_int_equal(chat[i].code, KF_CODE_OK);
        assert_int_equal(chat[i].finish, form[i].finish);
        assert_int_equal(chat[i].completion_tokens, form[i].completion_tokens);
        assert_string_equal(chat[i].text, form[i].text);
        n_bytes += strlen(chat[i].text);
    }
    assert_true(n_bytes > 0);
}

static void thoughts_stay_inside(void **state) {
    (void)state;
    static answer thought[N_TEXTS];
    write_decoder("{\"thinking\":\"hidden\"}", "{\"chat_template\":\"<|user|>{{ messages[-1].content }}<|assistant|>"
                                               "{% if enable_thinking %}<think>\\n{% endif %}\"}");
    ask_all(thought);
    for (int i = 0; i < N_TEXTS; i++) {
        assert_int_equal(thought[i].code, KF_CODE_OK);
        assert_true(thought[i].completion_tokens > 0);
        assert_int_equal(thought[i].n_parts, 0);
        assert_true(thought[i].handoff); /* there is nothing to answer with */
    }
}

int main(void) {
    models = tiny_models();
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_ids_same_replies), cmocka_unit_test(thoughts_stay_inside)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove(models);
    return failed;
}
