/* Bytes of a message ⇄ a request and a response. Everything that comes from outside is checked here, once: what passes
 * is UTF-8 without NUL, within the limits, with the defaults filled in.
 *
 *     kf_wire_in in = {.bytes = data, .n_bytes = n, .content_type = header, .subject = subject, .received_ns = now};
 *     kf_status s = kf_wire_decode(&in, &limits, arena, &request);
 *     // not KF_OK: kf_error_text() says what to change, in words that go to the client as they are;
 *     // request->id and request->json are filled in as far as they could be read, so the refusal can be addressed
 *     KF_TRY(kf_wire_encode(&request, &response, out, cap, &n));
 *
 * Any thread, one arena a thread. Nothing is allocated outside the arena; a message that would need more is refused
 * with KF_ERR_TOO_LARGE. The first decode hooks jansson's allocator (json_read.c), so no other thread may then be
 * inside jansson: load the models before the first message is taken.
 */
#ifndef KF_WIRE_WIRE_H
#define KF_WIRE_WIRE_H

#include "base/arena.h"
#include "serve/job.h"

typedef struct kf_wire_limits {
    size_t max_text_bytes; /* of text and of one turn */
    uint32_t max_tokens;   /* of generate */
    uint32_t default_max_tokens;
    uint32_t default_deadline_ms;
    float default_temperature, default_top_p, default_repetition_penalty;
    uint32_t default_top_k;
} kf_wire_limits;

typedef struct kf_wire_in {
    const void *bytes; /* the message, the caller's, needed during the call only; NULL where n_bytes is 0 */
    size_t n_bytes;
    const char *content_type; /* header Content-Type, NULL if absent: then a message that starts with '{' is JSON */
    const char *subject; /* tenant and lane, where it names them, win over the message's fields; NULL: none there */
    bool lenient;        /* header Kefu-Lenient: 1: unknown JSON fields are ignored */
    int64_t received_ns; /* kf_clock_now_ns at receipt: the deadline counts from here */
} kf_wire_in;

/* KF_OK; KF_ERR_INVALID, KF_ERR_TOO_LARGE, KF_ERR_UNSUPPORTED (audio, image): the refusal's text is kf_error_text().
 * It names the field, what was wanted and what was found (a length, a position, a number; never the customer's words,
 * but the first 40 bytes of an unknown field's name). out->id is the message's, or 32 hexadecimal digits of ours. */
kf_status kf_wire_decode(const kf_wire_in *in, const kf_wire_limits *limits, kf_arena *arena, kf_request *out);

/* Writes the response in the request's own format into out[cap]. Never empty, never starts with '-'. KF_ERR_TOO_LARGE:
 * *n is what it needs; KF_ERR_NO_MEMORY: the arena has no room for the response's lists, *n is as it was. `arena` is
 * scratch, used and given back within the call. Texts must be UTF-8 without NUL. */
kf_status kf_wire_encode(const kf_request *r, const kf_response *response, kf_arena *arena, void *out, size_t cap,
                         size_t *n);

/* A code as kefu.proto spells it, "INVALID_ARGUMENT"; "?" for a number that the contract does not have. A constant. */
const char *kf_wire_code_name(int code);

/* FNV-1a 64 over session_id's bytes, mod KF_WIRE_BUCKETS: the subject's bucket, in decimal; "any" without a session.
 */
enum { KF_WIRE_BUCKETS = 16 };
unsigned kf_wire_bucket(const char *session_id, size_t n_bytes);

#endif
