/* A Request from the options that ask, chat and bench share.
 *
 *     typedef struct settings { kf_request_opts request; … } settings;
 *     static const kf_option table[] = {KF_REQUEST_OPTIONS(settings, request), …};
 *     kf_request_build b;
 *     kf_request_build_init(&b, &s.request, &o);
 *     b.request.text = …;                          // b.request points into b and into the options' texts
 */
#ifndef KF_CLI_REQUEST_H
#define KF_CLI_REQUEST_H

#include "base/options.h"
#include "kefu.pb-c.h"
#include "transport/connect.h"

typedef struct kf_request_opts {
    const char *tenant, *user;
    kf_option_texts stop;
    int lane; /* index into kf_lane_names */
    bool understand;
    int64_t max_tokens, top_k, deadline_ms;
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    const char *json_schema, *regex;
    int64_t seed;
} kf_request_opts;

extern const char *const kf_lane_names[]; /* "normal", "high", "low", NULL */

#define KF_REQUEST_OPTION_(T, f, field, kind, name, arg, help, ...)                                                    \
    KF_OPTION(name, kind, offsetof(T, f.field), arg, NULL, help, .once = true, __VA_ARGS__)

/* Rows for a settings struct T with its kf_request_opts in the field f. What is not given is the worker's to choose. */
#define KF_REQUEST_OPTIONS(T, f)                                                                                       \
    KF_REQUEST_OPTION_(T, f, tenant, KF_OPTION_TEXT, "tenant", "NAME", "whose request this is"),                       \
        KF_REQUEST_OPTION_(T, f, user, KF_OPTION_TEXT, "user", "ID", "which customer"),                                \
        KF_REQUEST_OPTION_(T, f, lane, KF_OPTION_CHOICE, "lane", "LANE", "high, normal or low",                        \
                           .choices = kf_lane_names),                                                                  \
        KF_REQUEST_OPTION_(T, f, understand, KF_OPTION_FLAG, "understand", NULL, "no reply: the understanding alone"), \
        KF_REQUEST_OPTION_(T, f, max_tokens, KF_OPTION_INT, "max-tokens", "N", "longest reply", .min = 1,              \
                           .max = 1 << 20),                                                                            \
        KF_REQUEST_OPTION_(T, f, temperature, KF_OPTION_REAL, "temperature", "T", "0 is greedy", .max = 2),            \
        KF_REQUEST_OPTION_(T, f, top_k, KF_OPTION_INT, "top-k", "K", "0 is off", .max = 1 << 20),                      \
        KF_REQUEST_OPTION_(T, f, top_p, KF_OPTION_REAL, "top-p", "P", "1 is off", .min = 1e-6, .max = 1),              \
        KF_REQUEST_OPTION_(T, f, min_p, KF_OPTION_REAL, "min-p", "P", "0 is off", .max = 1),                           \
        KF_REQUEST_OPTION_(T, f, repetition_penalty, KF_OPTION_REAL, "repetition-penalty", "X", "1 is off",            \
                           .min = 1e-6, .max = 10),                                                                    \
        KF_REQUEST_OPTION_(T, f, presence_penalty, KF_OPTION_REAL, "presence-penalty", "X", "0 is off", .min = -2,     \
                           .max = 2),                                                                                  \
        KF_REQUEST_OPTION_(T, f, frequency_penalty, KF_OPTION_REAL, "frequency-penalty", "X", "0 is off", .min = -2,   \
                           .max = 2),                                                                                  \
        KF_REQUEST_OPTION_(T, f, json_schema, KF_OPTION_TEXT, "json-schema", "JSON",                                   \
                           "the reply is JSON that this schema allows"),                                               \
        KF_REQUEST_OPTION_(T, f, regex, KF_OPTION_TEXT, "regex", "EXPRESSION", "the reply is a match of it"),          \
        KF_REQUEST_OPTION_(T, f, seed, KF_OPTION_INT, "seed", "N", "the same seed, the same reply",                    \
                           .max = 9007199254740991.0),                                                                 \
        KF_REQUEST_OPTION_(T, f, stop, KF_OPTION_TEXTS, "stop", "TEXT", "the reply ends before it; up to 8 times"),    \
        KF_REQUEST_OPTION_(T, f, deadline_ms, KF_OPTION_INT, "deadline-ms", "MS", "after which nobody wants it",       \
                           .min = 1, .max = 4294967295.0)

/* What is wrong with these options, for kf_cli_usage; NULL: nothing. A tenant is a part of the subject, and nothing
 * but [a-z0-9_-]{1,32} may get there. */
const char *kf_request_lacks(const kf_request_opts *s, const kf_nats_opts *nats);

typedef struct kf_request_build {
    Kefu__V1__Request request;
    Kefu__V1__Generate generate;
    Kefu__V1__ResponseFormat format;
    char *stop[KF_OPTION_TEXTS_MAX];
    char id[33];
} kf_request_build;

/* A request with a fresh id and everything that the options say; text, session and history are the caller's to set.
 * b must stay where it is. */
void kf_request_build_init(kf_request_build *b, const kf_request_opts *s, const kf_options *o);

#endif
