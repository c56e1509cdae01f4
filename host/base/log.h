/* One JSON line an event. Never a customer's words: fields are names of things, counts, codes and our own texts.
 *
 *     kf_log(KF_INFO, "model_loaded", KF_STR("dir", dir), KF_INT("weights_bytes", n), KF_F64("seconds", t), KF_END);
 *     // {"ts":"2026-11-24T08:00:00.000Z","level":"info","event":"model_loaded","dir":"…","weights_bytes":31457280,…}
 *
 * Library code may log; where it goes is the program's choice: without a sink (the default) nothing is written.
 * Any thread; a line is written by one write(2), so lines of several threads never mix.
 */
#ifndef KF_BASE_LOG_H
#define KF_BASE_LOG_H

#include <stdint.h>

typedef enum kf_log_level { KF_DEBUG, KF_INFO, KF_WARN, KF_ERROR } kf_log_level;

typedef struct kf_log_field {
    const char *key; /* NULL ends the list */
    enum { KF_LOG_STR, KF_LOG_INT, KF_LOG_F64, KF_LOG_BOOL } kind;
    const char *s;
    int64_t i;
    double f;
} kf_log_field;

#define KF_STR(k, v) ((kf_log_field){.key = (k), .kind = KF_LOG_STR, .s = (v)})
#define KF_INT(k, v) ((kf_log_field){.key = (k), .kind = KF_LOG_INT, .i = (int64_t)(v)})
#define KF_F64(k, v) ((kf_log_field){.key = (k), .kind = KF_LOG_F64, .f = (v)})
#define KF_BOOL(k, v) ((kf_log_field){.key = (k), .kind = KF_LOG_BOOL, .i = (v) != 0})
#define KF_END ((kf_log_field){0})

#define kf_log(level, event, ...) kf_log_write((level), (event), (const kf_log_field[]){__VA_ARGS__})
void kf_log_write(kf_log_level level, const char *event, const kf_log_field *fields);

/* fd: an open descriptor that stays the caller's, or -1 for none. Call before threads start. */
void kf_log_to(int fd, kf_log_level least);

#endif
