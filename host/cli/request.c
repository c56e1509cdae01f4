/* Options to a Request: a field is set only where its option was given. */
#include "cli/request.h"

#include <string.h>

#include "cli/client.h"

const char *const kf_lane_names[] = {"normal", "high", "low", NULL};

const char *kf_request_lacks(const kf_request_opts *s, const kf_nats_opts *nats) {
    size_t n = s->tenant ? strspn(s->tenant, "abcdefghijklmnopqrstuvwxyz0123456789_-") : 1;
    if (n < 1 || n > 32 || (s->tenant && s->tenant[n])) return "--tenant: 1 to 32 of a-z, 0-9, _ and - are wanted";
    if (s->json_schema && s->regex) return "--json-schema and --regex: one of them";
    return kf_nats_opts_check(nats) == KF_OK ? NULL : kf_error_text();
}

static void build_generate(Kefu__V1__Generate *g, const kf_request_opts *s, const kf_options *o) {
    if (kf_options_given(o, "max-tokens")) {
        g->max_tokens_set_case = KEFU__V1__GENERATE__MAX_TOKENS_SET_MAX_TOKENS;
        g->max_tokens = (uint32_t)s->max_tokens;
    }
    if (kf_options_given(o, "temperature")) {
        g->temperature_set_case = KEFU__V1__GENERATE__TEMPERATURE_SET_TEMPERATURE;
        g->temperature = (float)s->temperature;
    }
    if (kf_options_given(o, "top-k")) {
        g->top_k_set_case = KEFU__V1__GENERATE__TOP_K_SET_TOP_K;
        g->top_k = (uint32_t)s->top_k;
    }
    if (kf_options_given(o, "top-p")) {
        g->top_p_set_case = KEFU__V1__GENERATE__TOP_P_SET_TOP_P;
        g->top_p = (float)s->top_p;
    }
    if (kf_options_given(o, "min-p")) {
        g->min_p_set_case = KEFU__V1__GENERATE__MIN_P_SET_MIN_P;
        g->min_p = (float)s->min_p;
    }
    if (kf_options_given(o, "repetition-penalty")) {
        g->repetition_penalty_set_case = KEFU__V1__GENERATE__REPETITION_PENALTY_SET_REPETITION_PENALTY;
        g->repetition_penalty = (float)s->repetition_penalty;
    }
    if (kf_options_given(o, "presence-penalty")) {
        g->presence_penalty_set_case = KEFU__V1__GENERATE__PRESENCE_PENALTY_SET_PRESENCE_PENALTY;
        g->presence_penalty = (float)s->presence_penalty;
    }
    if (kf_options_given(o, "frequency-penalty")) {
        g->frequency_penalty_set_case = KEFU__V1__GENERATE__FREQUENCY_PENALTY_SET_FREQUENCY_PENALTY;
        g->frequency_penalty = (float)s->frequency_penalty;
    }
    if (kf_options_given(o, "seed")) {
        g->seed_set_case = KEFU__V1__GENERATE__SEED_SET_SEED;
        g->seed = (uint64_t)s->seed;
    }
}

static void build_format(kf_request_build *b, const kf_request_opts *s) {
    Kefu__V1__ResponseFormat *f = &b->format;
    kefu__v1__response_format__init(f);
    if (!s->json_schema && !s->regex) return;
    b->generate.response_format = f;
    if (s->json_schema) {
        f->format_case = KEFU__V1__RESPONSE_FORMAT__FORMAT_JSON_SCHEMA;
        f->json_schema = (char *)s->json_schema;
    } else {
        f->format_case = KEFU__V1__RESPONSE_FORMAT__FORMAT_REGEX;
        f->regex = (char *)s->regex;
    }
}

void kf_request_build_init(kf_request_build *b, const kf_request_opts *s, const kf_options *o) {
    kefu__v1__request__init(&b->request);
    kefu__v1__generate__init(&b->generate);
    kf_client_new_id(b->id);
    b->request.id = b->id;
    b->request.generate = &b->generate;
    if (s->tenant) b->request.tenant = (char *)s->tenant;
    if (s->user) b->request.user_id = (char *)s->user;
    if (s->understand) b->request.want = KEFU__V1__WANT__UNDERSTAND;
    if (s->deadline_ms) {
        b->request.deadline_case = KEFU__V1__REQUEST__DEADLINE_DEADLINE_MS;
        b->request.deadline_ms = (uint32_t)s->deadline_ms;
    }
    build_generate(&b->generate, s, o);
    build_format(b, s);
    for (size_t i = 0; i < s->stop.n; i++)
        b->stop[i] = (char *)s->stop.text[i];
    b->generate.stop = b->stop;
    b->generate.n_stop = s->stop.n;
}
