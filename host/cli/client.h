/* The client's side of the wire: a request out over NATS, its parts and its one final response back.
 *
 *     kf_client *c;
 *     KF_TRY(kf_client_open(&nats_opts, "kefu ask", wait_until_ns, &c));
 *     Kefu__V1__Response *final;
 *     KF_TRY(kf_client_ask(c, &request, &(kf_ask_opts){.timeout_ns = 30e9}, &final));
 *     …
 *     kefu__v1__response__free_unpacked(final, NULL);
 *     kf_client_close(c);
 *
 * One thread; one request at a time. Where nobody is there to answer, a caller that is willing to wait is served as
 * soon as somebody is: connecting and asking are tried again until wait_until_ns (on kf_clock_now_ns).
 */
#ifndef KF_CLI_CLIENT_H
#define KF_CLI_CLIENT_H

#include <signal.h>
#include <stdint.h>

#include "base/status.h"
#include "kefu.pb-c.h"
#include "transport/connect.h"

typedef struct kf_client kf_client;

/* KF_ERR_INVALID: the options; KF_ERR_IO: no connection (the text has the URL); KF_ERR_NO_MEMORY. */
kf_status kf_client_open(const kf_nats_opts *nats, const char *name, int64_t wait_until_ns, kf_client **out);
void kf_client_close(kf_client *c);

typedef struct kf_ask_opts {
    const char *lane;      /* "high", "normal", "low"; NULL: normal */
    int64_t timeout_ns;    /* without any message for so long: KF_ERR_DEADLINE */
    int64_t wait_until_ns; /* nobody there, or not ready: ask again until then; 0: do not */
    /* Where the request streams: each part, in order, none twice; r is valid during the call. NULL: parts are
     * dropped. */
    void (*on_part)(void *user, const Kefu__V1__Response *r);
    void *user;
    const volatile sig_atomic_t *cancel; /* becomes 1: the request is taken back; NULL: never */
} kf_ask_opts;

/* Sends the request and waits for its final response, which is the caller's to free. request->id must not be empty.
 * KF_ERR_NOT_FOUND: nobody listens; KF_ERR_DEADLINE; KF_ERR_IO: the connection is lost; KF_ERR_CORRUPT: what came is
 * no Response. A refusal is KF_OK: read final->status. */
kf_status kf_client_ask(kf_client *c, const Kefu__V1__Request *request, const kf_ask_opts *o,
                        Kefu__V1__Response **final);

/* When the request that was answered last had been sent: waiting for a worker to appear is not its time. */
int64_t kf_client_sent_ns(const kf_client *c);

/* A command's exit code for a failure of the functions above. */
int kf_client_exit_code(kf_status s);

/* The subject for a request: the simple alias where tenant, lane and session are not set. out [cap]. */
void kf_client_subject(const Kefu__V1__Request *request, const char *lane, char *out, size_t cap);

/* 128 random bits in hex, for ids of requests and sessions. out [33]. */
void kf_client_new_id(char out[33]);

#endif
