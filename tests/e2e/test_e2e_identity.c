/* Aim: kefud and kefu get into a broker in each way that brokers ask for (user and password, token, NKey, credentials
 * file, TLS with and without a certificate of ours), are refused without, and show no secret.
 * Method: a real nats-server with that way in its configuration, the built programs; keys of identity.h, certificates
 * made here by openssl. */
#include "e2e/broker.h"
#include "e2e/cli_run.h"
#include "e2e/identity.h"

enum { MAX_OPTIONS = 10 };

static char dir[64];
static broker b;

/* A file of dir; valid for 31 more calls. */
static const char *path_of(const char *name) {
    static char paths[32][128];
    static unsigned next;
    char *path = paths[next++ % 32];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static const char *write_file(const char *name, const char *text) {
    const char *path = path_of(name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

/* The URL of b with something before the host: "nats://", "tls://", "nats://joe:secret@". */
static const char *url(const char *before) {
    static char text[160];
    snprintf(text, sizeof text, "%s127.0.0.1:%d", before, b.port);
    return text;
}

/* A worker gets in and answers a client that shows the same; neither writes `secret` anywhere. True: it warns that
 * nobody looks whose certificate it is. */
static bool gets_in(const char *at, const char *const *options, const char *secret) {
    worker w;
    const char *start[MAX_OPTIONS + 3] = {"--device", "null"}, *ask[MAX_OPTIONS + 8] = {"kefu", "ask", "--nats", at};
    size_t n = 0;
    for (; options && options[n]; n++)
        start[n + 2] = ask[n + 4] = options[n];
    ask[n + 4] = "--understand";
    ask[n + 5] = "在吗";
    worker_start(&w, at, start);
    worker_wait(&w, "/readyz", 200);
    cli_result r = cli_run_list(NULL, ask);
    if (r.code != 0) fail_msg("kefu ask ends with %d: %s", r.code, r.err);
    assert_int_equal(worker_end(&w, SIGTERM, 10000), 0);
    if (strstr(file_text(w.log), secret)) fail_msg("the log has a secret: %s", file_text(w.log));
    bool unchecked = strstr(file_text(w.log), "nats_host_not_checked") != NULL;
    worker_forget(&w);
    return unchecked;
}

/* The worker ends with 3 and the client with 3; their words have no secret. */
static void is_refused(const char *at, const char *const *options, const char *secret) {
    const char *start[MAX_OPTIONS + 12] = {
        KF_BIN_DIR "/kefud", "--models", KF_SOURCE_DIR "/models", "--device", "null", "--http", "off", "--nats", at};
    const char *ask[MAX_OPTIONS + 8] = {"kefu", "ask", "--nats", at}, *log = path_of("refused.log");
    size_t n = 0;
    for (; options && options[n]; n++)
        start[n + 9] = ask[n + 4] = options[n];
    ask[n + 4] = "在吗";
    unlink(log);
    int code = await_exit(spawn(start, log), 60000);
    if (code != 3) fail_msg("kefud ends with %d, 3 wanted: %s", code, file_text(log));
    assert_contains(file_text(log), "nats_closed");
    assert_null(strstr(file_text(log), secret));
    cli_result r = cli_run_list(NULL, ask);
    if (r.code == 0) fail_msg("kefu ask gets in: %s", r.out);
    assert_null(strstr(r.err, secret));
}

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void user_and_password(void **state) {
    (void)state;
    broker_start(&b, -1, "authorization { user: joe, password: hunter2 }\n");
    gets_in(url("nats://joe:hunter2@"), NULL, "hunter2");
    is_refused(url("nats://joe:hunter3@"), NULL, "hunter3");
    is_refused(url("nats://"), NULL, "hunter2");
    broker_stop(&b);
}

static void token(void **state) {
    (void)state;
    broker_start(&b, -1, "authorization { token: hunter2 }\n");
    gets_in(url("nats://hunter2@"), NULL, "hunter2");
    is_refused(url("nats://hunter3@"), NULL, "hunter3");
    broker_stop(&b);
}

static void nkey(void **state) {
    (void)state;
    char conf[256];
    const char *seed = write_file("user.nk", user_seed), *other = write_file("stranger.nk", stranger_seed);
    snprintf(conf, sizeof conf, "authorization { users: [ { nkey: %s } ] }\n", user_key);
    broker_start(&b, -1, conf);
    gets_in(url("nats://"), OPTIONS("--nats-nkey", user_key, "--nats-nkey-seed", seed), user_seed);
    is_refused(url("nats://"), OPTIONS("--nats-nkey", stranger_key, "--nats-nkey-seed", other), stranger_seed);
    is_refused(url("nats://"), OPTIONS("--nats-nkey", user_key, "--nats-nkey-seed", other), stranger_seed);
    broker_stop(&b);
}

static const char *credentials(const char *name, const char *seed) {
    char text[2048];
    snprintf(text, sizeof text,
             "-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n"
             "-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n",
             user_jwt, seed);
    return write_file(name, text);
}

static void credentials_file(void **state) {
    (void)state;
    char conf[4096];
    snprintf(conf, sizeof conf, "operator: %s\nresolver: MEMORY\nresolver_preload: { %s: %s }\n", operator_jwt,
             account_key, account_jwt);
    broker_start(&b, -1, conf);
    gets_in(url("nats://"), OPTIONS("--nats-creds", credentials("user.creds", user_seed)), user_seed);
    is_refused(url("nats://"), OPTIONS("--nats-creds", credentials("wrong.creds", stranger_seed)), stranger_seed);
    is_refused(url("nats://"), NULL, user_seed);
    broker_stop(&b);
}

static void openssl(const char *const *arguments) {
    const char *log = path_of("openssl.log");
    if (await_exit(spawn(arguments, log), 30000) != 0) fail_msg("openssl: %s", file_text(log));
}

/* name.pem and name.key, signed by ca.pem: for localhost and 127.0.0.1. */
static void make_certificate(const char *name) {
    char key[32], request[32], pem[32];
    snprintf(key, sizeof key, "%s.key", name);
    snprintf(request, sizeof request, "%s.csr", name);
    snprintf(pem, sizeof pem, "%s.pem", name);
    const char *more = write_file("more.cnf", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    openssl(OPTIONS("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout",
                    path_of(key), "-out", path_of(request)));
    openssl(OPTIONS("openssl", "x509", "-req", "-in", path_of(request), "-CA", path_of("ca.pem"), "-CAkey",
                    path_of("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", more, "-out", path_of(pem)));
}

static void broker_with_tls(const char *more) {
    char conf[512];
    snprintf(conf, sizeof conf, "tls { cert_file: \"%s\", key_file: \"%s\", ca_file: \"%s\"%s }\n",
             path_of("server.pem"), path_of("server.key"), path_of("ca.pem"), more);
    broker_start(&b, -1, conf);
}

static void tls(void **state) {
    (void)state;
    const char *ca = path_of("ca.pem");
    broker_with_tls("");
    assert_true(gets_in(url("tls://"), OPTIONS("--nats-tls-ca", ca), "PRIVATE KEY"));
    assert_false(gets_in(url("nats://"), OPTIONS("--nats-tls-ca", ca, "--nats-tls-name", "localhost"), "PRIVATE KEY"));
    is_refused(url("tls://"), NULL, "PRIVATE KEY"); /* nobody that the system knows has signed it */
    is_refused(url("tls://"), OPTIONS("--nats-tls-ca", ca, "--nats-tls-name", "elsewhere"), "PRIVATE KEY");
    broker_stop(&b);
}

static void tls_with_a_certificate_of_ours(void **state) {
    (void)state;
    const char *ca = path_of("ca.pem"), *pem = path_of("client.pem"), *key = path_of("client.key");
    broker_with_tls(", verify: true");
    gets_in(url("tls://"), OPTIONS("--nats-tls-ca", ca, "--nats-tls-cert", pem, "--nats-tls-key", key), "PRIVATE KEY");
    broker_stop(&b);
}

static int setup(void **state) {
    (void)state;
    make_dir(dir);
    openssl(OPTIONS("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
                    "-keyout", path_of("ca.key"), "-out", path_of("ca.pem")));
    make_certificate("server");
    make_certificate("client");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    remove_dir(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_and_password), cmocka_unit_test(token), cmocka_unit_test(nkey),
        cmocka_unit_test(credentials_file),  cmocka_unit_test(tls),   cmocka_unit_test(tls_with_a_certificate_of_ours),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
