/* nats.c's options from ours (connect.h). */
#include "transport/connect.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SERVERS = 32, CONNECT_TIMEOUT_MS = 2000 };

kf_status kf_nats_failed(natsStatus ns, const char *file, int line, const char *fmt, ...) {
    static const struct {
        natsStatus from;
        kf_status to;
    } table[] = {
        {NATS_NO_MEMORY, KF_ERR_NO_MEMORY},     {NATS_TIMEOUT, KF_ERR_DEADLINE},
        {NATS_MAX_PAYLOAD, KF_ERR_TOO_LARGE},   {NATS_INVALID_ARG, KF_ERR_INVALID},
        {NATS_INVALID_SUBJECT, KF_ERR_INVALID}, {NATS_ADDRESS_MISSING, KF_ERR_INVALID},
        {NATS_NOT_FOUND, KF_ERR_NOT_FOUND},     {NATS_CONNECTION_CLOSED, KF_ERR_CLOSED},
        {NATS_DRAINING, KF_ERR_CLOSED},         {NATS_INSUFFICIENT_BUFFER, KF_ERR_OVERLOADED},
        {NATS_NO_RESPONDERS, KF_ERR_NOT_FOUND},
    };
    kf_status s = KF_ERR_IO;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].from == ns) s = table[i].to;
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    const char *detail = nats_GetLastError(NULL);
    return kf_error_set(s, file, line, "%s: %s", what, detail && *detail ? detail : natsStatus_GetText(ns));
}

bool kf_nats_uses_tls(const kf_nats_opts *o) {
    return strstr(o->url, "tls://") || o->tls_ca || o->tls_cert || o->tls_key || o->tls_name;
}

void kf_nats_url_shown(const char *url, char *out, size_t cap) {
    const char *scheme = strstr(url, "://"), *at = strrchr(url, '@');
    int n_scheme = scheme && at ? (int)(scheme - url) + 3 : 0;
    snprintf(out, cap, "%.*s%s", n_scheme, url, at ? at + 1 : url);
}

static kf_status check_file(const char *option, const char *path) {
    if (!path || access(path, R_OK) == 0) return KF_OK;
    return KF_FAIL(KF_ERR_NOT_FOUND, "--%s %s: the file is not there or cannot be read", option, path);
}

static kf_status check(const kf_nats_opts *o) {
    if (!o->tls_cert != !o->tls_key)
        return KF_FAIL(KF_ERR_INVALID, "--nats-tls-cert and --nats-tls-key belong together: give both");
    if (!o->nkey != !o->nkey_seed)
        return KF_FAIL(KF_ERR_INVALID, "--nats-nkey and --nats-nkey-seed belong together: give both");
    KF_TRY(check_file("nats-creds", o->creds));
    KF_TRY(check_file("nats-nkey-seed", o->nkey_seed));
    KF_TRY(check_file("nats-tls-ca", o->tls_ca));
    KF_TRY(check_file("nats-tls-cert", o->tls_cert));
    return check_file("nats-tls-key", o->tls_key);
}

/* "a, b" to nats.c's list of servers. */
static kf_status set_servers(natsOptions *opts, const char *urls) {
    const char *list[MAX_SERVERS];
    int n = 0;
    char *copy = strdup(urls), *rest = copy, *url;
    if (!copy) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for --nats");
    while ((url = strsep(&rest, ", ")) && n < MAX_SERVERS)
        if (*url) list[n++] = url;
    natsStatus ns = n && !rest ? natsOptions_SetServers(opts, list, n) : NATS_INVALID_ARG;
    free(copy);
    if (ns == NATS_OK) return KF_OK;
    return KF_FAIL(KF_ERR_INVALID, "--nats: 1 to %d URLs wanted, separated by commas", MAX_SERVERS);
}

static kf_status set_tls(natsOptions *opts, const kf_nats_opts *o) {
    natsStatus ns = natsOptions_SetSecure(opts, true); /* before 3.13 a tls:// URL alone does not switch it on */
    if (ns != NATS_OK) return KF_NATS_FAIL(ns, "this nats.c has no TLS");
    if (o->tls_ca && (ns = natsOptions_LoadCATrustedCertificates(opts, o->tls_ca)) != NATS_OK)
        return KF_NATS_FAIL(ns, "--nats-tls-ca %s", o->tls_ca);
    if (o->tls_cert && (ns = natsOptions_LoadCertificatesChain(opts, o->tls_cert, o->tls_key)) != NATS_OK)
        return KF_NATS_FAIL(ns, "--nats-tls-cert %s, --nats-tls-key %s", o->tls_cert, o->tls_key);
    if (o->tls_name && (ns = natsOptions_SetExpectedHostname(opts, o->tls_name)) != NATS_OK)
        return KF_NATS_FAIL(ns, "--nats-tls-name %s", o->tls_name);
    return KF_OK;
}

static kf_status set_identity(natsOptions *opts, const kf_nats_opts *o) {
    natsStatus ns = NATS_OK;
    if (o->creds && (ns = natsOptions_SetUserCredentialsFromFiles(opts, o->creds, NULL)) != NATS_OK)
        return KF_NATS_FAIL(ns, "--nats-creds %s", o->creds);
    if (o->nkey && (ns = natsOptions_SetNKeyFromSeed(opts, o->nkey, o->nkey_seed)) != NATS_OK)
        return KF_NATS_FAIL(ns, "--nats-nkey, --nats-nkey-seed %s", o->nkey_seed);
    return KF_OK;
}

kf_status kf_nats_options_new(const kf_nats_opts *o, const char *name, natsOptions **out) {
    KF_TRY(check(o));
    natsOptions *opts = NULL;
    natsStatus ns = natsOptions_Create(&opts);
    if (ns != NATS_OK) return KF_NATS_FAIL(ns, "nats.c's options");

    kf_status s = set_servers(opts, o->url);
    if (s == KF_OK && kf_nats_uses_tls(o)) s = set_tls(opts, o);
    KF_STEP(s, set_identity(opts, o));
    if (s == KF_OK && ((ns = natsOptions_SetName(opts, name)) != NATS_OK ||
                       (ns = natsOptions_SetTimeout(opts, CONNECT_TIMEOUT_MS)) != NATS_OK))
        s = KF_NATS_FAIL(ns, "nats.c's options");
    if (s != KF_OK) {
        natsOptions_Destroy(opts);
        return s;
    }
    *out = opts;
    return KF_OK;
}
