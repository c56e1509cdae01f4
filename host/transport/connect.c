/* nats.c's options from ours (connect.h). */
#include "transport/connect.h"

#include <regex.h>
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

/* One of --nats: scheme, user:password or token, a host, a port. Of these only the host must be there. */
static bool is_server(const char *url) {
    static const char form[] = "^((nats|tls)://)?(.*@)?(\\[[^]]+\\]|[^]/@:[]+)(:([0-9]{1,5}))?/?$";
    enum { PORT = 6, N_PARTS };
    regex_t regex;
    regmatch_t part[N_PARTS];
    if (regcomp(&regex, form, REG_EXTENDED | REG_ICASE) != 0) return false;
    bool matches = regexec(&regex, url, N_PARTS, part, 0) == 0;
    regfree(&regex);
    if (!matches || part[PORT].rm_so < 0) return matches;
    long port = strtol(url + part[PORT].rm_so, NULL, 10);
    return port >= 1 && port <= 65535;
}

typedef struct servers {
    const char *url[MAX_SERVERS];
    int n;
    char *copy; /* the reader's to free; the URLs are its parts */
} servers;

/* "a, b" to a list for nats.c, each looked at: it would try for ever to reach what is no address. */
static kf_status read_servers(const char *urls, servers *out) {
    servers list = {.copy = strdup(urls)};
    char *rest = list.copy, *url;
    if (!rest) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for --nats");
    kf_status s = KF_OK;
    while (s == KF_OK && (url = strsep(&rest, ", "))) {
        if (!*url) continue;
        if (list.n == MAX_SERVERS) {
            s = KF_FAIL(KF_ERR_INVALID, "--nats: at most %d URLs wanted", MAX_SERVERS);
        } else if (!is_server(url)) {
            s = KF_FAIL(KF_ERR_INVALID, "--nats: URL %d is not of the form nats://HOST:4222, tls://… or HOST",
                        list.n + 1);
        } else {
            list.url[list.n++] = url;
        }
    }
    if (s == KF_OK && list.n == 0) s = KF_FAIL(KF_ERR_INVALID, "--nats: a URL is wanted, like nats://HOST:4222");
    if (s == KF_OK)
        *out = list;
    else
        free(list.copy);
    return s;
}

kf_status kf_nats_opts_check(const kf_nats_opts *o) {
    servers list;
    KF_TRY(read_servers(o->url, &list));
    free(list.copy);
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

static kf_status set_servers(natsOptions *opts, const char *urls) {
    servers list;
    KF_TRY(read_servers(urls, &list));
    natsStatus ns = natsOptions_SetServers(opts, list.url, list.n);
    free(list.copy);
    return ns == NATS_OK ? KF_OK : KF_NATS_FAIL(ns, "--nats");
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
    KF_TRY(kf_nats_opts_check(o));
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
