/* How kefu's programs reach a broker: the options that kefud and kefu share, and nats.c's options made from them.
 *
 *     typedef struct settings { kf_nats_opts nats; … } settings;
 *     static const kf_option table[] = { KF_NATS_OPTIONS(settings, nats), … };
 *     …
 *     natsOptions *opts;
 *     KF_TRY(kf_nats_options_new(&s.nats, "kefu ask", &opts));
 *     natsStatus ns = natsConnection_Connect(&nc, opts);
 *     if (ns != NATS_OK) return KF_NATS_FAIL(ns, "cannot connect to %s", s.nats.url);
 *
 * Debian's nats.c is 3.4.1: what it gets wrong and how these files stay clear of it is said where it matters.
 */
#ifndef KF_TRANSPORT_CONNECT_H
#define KF_TRANSPORT_CONNECT_H

#include <nats/nats.h>

#include "base/options.h"
#include "base/status.h"

typedef struct kf_nats_opts {
    const char *url;   /* one server or several, separated by commas; a URL may carry user:password@ or token@ */
    const char *creds; /* a credentials file (user JWT and seed) */
    const char *nkey, *nkey_seed;   /* a public NKey, and the file with its seed */
    const char *tls_ca;             /* certificates that sign the server's; NULL: the system's */
    const char *tls_cert, *tls_key; /* our own certificate, where the server wants one */
    const char *tls_name;           /* the host name wanted in the server's certificate; NULL: not checked */
} kf_nats_opts;

#define KF_NATS_OPTION_(T, f, field, name, arg, def, help, ...)                                                        \
    KF_OPTION(name, KF_OPTION_TEXT, offsetof(T, f.field), arg, def, help, __VA_ARGS__)

/* Rows of a table whose program's struct T has its kf_nats_opts in the field f. */
#define KF_NATS_OPTIONS(T, f)                                                                                          \
    KF_NATS_OPTION_(T, f, url, "nats", "URL", "nats://127.0.0.1:4222", "NATS servers, separated by commas",            \
                    .url = true),                                                                                      \
        KF_NATS_OPTION_(T, f, creds, "nats-creds", "FILE", NULL, "credentials file (JWT and seed)"),                   \
        KF_NATS_OPTION_(T, f, nkey, "nats-nkey", "KEY", NULL, "public NKey, with --nats-nkey-seed"),                   \
        KF_NATS_OPTION_(T, f, nkey_seed, "nats-nkey-seed", "FILE", NULL, "file with the NKey's seed"),                 \
        KF_NATS_OPTION_(T, f, tls_ca, "nats-tls-ca", "FILE", NULL, "certificates that sign the server's"),             \
        KF_NATS_OPTION_(T, f, tls_cert, "nats-tls-cert", "FILE", NULL, "our certificate, with --nats-tls-key"),        \
        KF_NATS_OPTION_(T, f, tls_key, "nats-tls-key", "FILE", NULL, "our certificate's key"),                         \
        KF_NATS_OPTION_(T, f, tls_name, "nats-tls-name", "HOST", NULL, "host name wanted in the server's certificate")

/* Can these options be meant? Looks at their form and whether their files can be read; connects to nothing.
 * KF_ERR_INVALID, KF_ERR_NOT_FOUND: the text names the option. */
kf_status kf_nats_opts_check(const kf_nats_opts *o);

/* nats.c's options: servers, the connection's name, credentials, TLS. TLS is on where a URL begins with tls:// or any
 * --nats-tls-… is given. The caller destroys *out (natsOptions_Destroy) after connecting.
 * The statuses of kf_nats_opts_check; KF_ERR_INVALID: what nats.c refuses of them; KF_ERR_NO_MEMORY. */
kf_status kf_nats_options_new(const kf_nats_opts *o, const char *name, natsOptions **out);

/* Does a connection with these options speak TLS? */
bool kf_nats_uses_tls(const kf_nats_opts *o);

/* A server's URL as it may be logged: what stands before an @ is left out. Writes out[cap]. */
void kf_nats_url_shown(const char *url, char *out, size_t cap);

/* A status of nats.c as one of ours, and a record of it: "<what>: <nats.c's text>". */
kf_status kf_nats_failed(natsStatus ns, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#define KF_NATS_FAIL(ns, ...) kf_nats_failed((ns), __FILE__, __LINE__, __VA_ARGS__)

#endif
